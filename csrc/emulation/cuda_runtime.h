// Host stand-in for <cuda_runtime.h>: runs the project's kernels on CPU fibers, one block at a
// time, so their indexing, barriers and warp collectives can be tested without a GPU.
// Not a performance tool and not a memory-model simulator: fibers switch only at barriers,
// collectives and exits, in an order chosen by LABELPENET_EMULATION_ORDER (0 forward, 1 reverse,
// >=2 random seed).
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMULATION_ASAN(x) x
#else
#define EMULATION_ASAN(x)
#endif
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __constant__ static
#define __launch_bounds__(...)
#define __shared__ static /* one block runs at a time, so one copy is the block's copy */
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline float2 make_float2(float a, float b) { return {a, b}; }
inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
typedef int cudaError_t;
typedef void* cudaStream_t;
constexpr int cudaSuccess = 0, cudaMemcpyDeviceToDevice = 3, cudaMemcpyDeviceToHost = 2,
              cudaMemcpyHostToDevice = 1;
inline cudaError_t cudaGetLastError() { return 0; }
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return 0;
}
inline cudaError_t cudaGetDevice(int* n) {
  *n = 0;
  return 0;
}
inline cudaError_t cudaSetDevice(int) { return 0; }
inline cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, int, cudaStream_t = 0) {
  std::memmove(d, s, n);
  return 0;
}
inline cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t = 0) {
  std::memset(d, v, n);
  return 0;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return 0; }
namespace emulation {
enum Wait : uint8_t { kRun, kBlock, kWarp, kDone };
struct Warp {
  uint64_t slot[32];
  uint32_t arrived = 0, need = 0, live = 0;
};
struct Fiber {
  ucontext_t ctx;
  std::vector<char> stack;
  uint3 tid;
  int lane;
  Warp* warp;
  Wait wait;
  int flag;
  void* fake = nullptr;
};
struct State {
  ucontext_t main;
  std::vector<Fiber> f;
  std::vector<Warp> w;
  Fiber* cur = nullptr;
  std::function<void()> body;
  std::vector<char> dyn;
  std::string err;
  int block_or = 0, block_count = 0;
  size_t switches = 0;
  void* main_fake = nullptr;
  const void* main_bottom = nullptr;
  size_t main_size = 0;
};
inline State& S() {
  static State s;
  return s;
}
}  // namespace emulation
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;
namespace emulation {
inline void to_main(bool last) {
  State& s = S();
  Fiber* me = s.cur;
  (void)last;
  EMULATION_ASAN(
      __sanitizer_start_switch_fiber(last ? nullptr : &me->fake, s.main_bottom, s.main_size);)
  swapcontext(&me->ctx, &s.main);
  EMULATION_ASAN(__sanitizer_finish_switch_fiber(me->fake, nullptr, nullptr);)
}
inline void to_fiber(Fiber& f) {
  State& s = S();
  s.cur = &f;
  threadIdx = f.tid;
  ++s.switches;
  EMULATION_ASAN(__sanitizer_start_switch_fiber(&s.main_fake, f.stack.data(), f.stack.size());)
  swapcontext(&s.main, &f.ctx);
  EMULATION_ASAN(__sanitizer_finish_switch_fiber(s.main_fake, nullptr, nullptr);)
}
inline void entry() {
  State& s = S();
  EMULATION_ASAN(__sanitizer_finish_switch_fiber(nullptr, &s.main_bottom, &s.main_size);)
  try {
    s.body();
  } catch (const std::exception& e) {
    if (s.err.empty()) s.err = e.what();
  }
  s.cur->wait = kDone;
  s.cur->warp->live &= ~(1u << s.cur->lane);
  to_main(true);
}
inline void pause(Wait w) {
  State& s = S();
  s.cur->wait = w;
  to_main(false);
  if (!s.err.empty()) throw std::runtime_error(s.err);
}
inline void fail(const std::string& m) {
  throw std::runtime_error("emulation: " + m + " (block " + std::to_string(blockIdx.x) + "," +
                           std::to_string(blockIdx.y) + " thread " + std::to_string(threadIdx.x) +
                           ")");
}
inline void warp_sync(uint32_t mask) {
  Fiber* me = S().cur;
  Warp* w = me->warp;
  if (!(mask >> me->lane & 1)) fail("lane calls a _sync collective outside its mask");
  if (w->arrived == 0)
    w->need = mask;
  else if (w->need != mask)
    fail("lanes of one warp meet in a collective with different masks");
  if (mask & ~w->live) fail("mask names a lane that has exited or does not exist");
  w->arrived |= 1u << me->lane;
  if (w->arrived == mask) {  // last one in: release the rest
    w->arrived = 0;
    State& s = S();
    for (Fiber& f : s.f)
      if (f.warp == w && f.wait == kWarp && (mask >> f.lane & 1)) f.wait = kRun;
    return;
  }
  pause(kWarp);
}
template <class T>
void exchange(uint32_t mask, T v, uint64_t* out) {
  static_assert(sizeof(T) <= 8, "");
  Fiber* me = S().cur;
  uint64_t b = 0;
  std::memcpy(&b, &v, sizeof v);
  me->warp->slot[me->lane] = b;
  warp_sync(mask);
  std::memcpy(out, me->warp->slot, sizeof me->warp->slot);
  warp_sync(mask);
}
template <class T>
T pick(uint32_t mask, T v, int src) {
  uint64_t o[32];
  exchange(mask, v, o);
  if (src < 0 || src > 31) return v;
  if (!(mask >> src & 1)) fail("shuffle reads a lane outside the mask");
  T r;
  std::memcpy(&r, &o[src], sizeof r);
  return r;
}
inline int order() {
  const char* e = std::getenv("LABELPENET_EMULATION_ORDER");
  return e ? std::atoi(e) : 0;
}
inline void run_block(size_t stack) {
  State& s = S();
  const int n = blockDim.x * blockDim.y * blockDim.z;
  if (n > 1024 || n == 0) throw std::runtime_error("emulation: bad block size");
  s.w.assign((n + 31) / 32, Warp());
  if ((int)s.f.size() < n) s.f.resize(n);
  std::vector<int> ord(n);
  for (int i = 0; i < n; ++i) {
    Fiber& f = s.f[i];
    f.stack.resize(stack);
    f.lane = i % 32;
    f.warp = &s.w[i / 32];
    f.wait = kRun;
    ord[i] = i;
    f.tid = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    f.warp->live |= 1u << f.lane;
    EMULATION_ASAN(ASAN_UNPOISON_MEMORY_REGION(f.stack.data(), stack);)
    getcontext(&f.ctx);
    f.ctx.uc_stack.ss_sp = f.stack.data();
    f.ctx.uc_stack.ss_size = stack;
    f.ctx.uc_link = nullptr;
    makecontext(&f.ctx, entry, 0);
  }
  for (size_t i = n; i < s.f.size(); ++i) s.f[i].wait = kDone;
  const int o = order();
  std::mt19937 rng(o + blockIdx.x * 7919 + blockIdx.y);
  if (o == 1) std::reverse(ord.begin(), ord.end());
  for (;;) {
    if (o >= 2) std::shuffle(ord.begin(), ord.end(), rng);
    int live = 0, ran = 0, at_block = 0;
    for (int i : ord) {
      Fiber& f = s.f[i];
      if (f.wait == kRun) {
        to_fiber(f);
        ++ran;
      }
      if (f.wait != kDone) {
        ++live;
        at_block += f.wait == kBlock;
      }
    }
    if (!live) break;
    if (ran) continue;
    if (at_block == live && s.err.empty()) {  // every live thread is at __syncthreads
      s.block_or = s.block_count = 0;
      for (int i = 0; i < n; ++i)
        if (s.f[i].wait == kBlock) {
          s.block_or |= s.f[i].flag;
          s.block_count += !!s.f[i].flag;
          s.f[i].wait = kRun;
        }
      continue;
    }
    if (s.err.empty())
      s.err = "emulation: deadlock: " + std::to_string(at_block) + " of " + std::to_string(live) +
              " live threads at __syncthreads, the rest in warp collectives";
    for (int i = 0; i < n; ++i)
      if (s.f[i].wait != kDone) s.f[i].wait = kRun;  // unwind every fiber
  }
  if (!s.err.empty()) {
    std::string e = s.err;
    s.err.clear();
    throw std::runtime_error(e);
  }
}
template <class K>
struct Launcher {
  K k;
  dim3 g, b;
  size_t smem;
  template <class... A>
  void operator()(A... a) {
    State& s = S();
    s.dyn.assign(smem + 16, 0);
    s.body = [=] { k(a...); };
    gridDim = g;
    blockDim = b;
    for (unsigned z = 0; z < g.z; ++z)
      for (unsigned y = 0; y < g.y; ++y)
        for (unsigned x = 0; x < g.x; ++x) {
          blockIdx = {x, y, z};
          std::memset(s.dyn.data(), 0xCB, s.dyn.size());
          run_block(64 << 10);
        }
  }
};
template <class K>
Launcher<K> launch(K k, dim3 g, dim3 b, size_t smem = 0, cudaStream_t = 0) {
  return {k, g, b, smem};
}
inline void* dyn_smem() { return (void*)(((uintptr_t)S().dyn.data() + 15) & ~(uintptr_t)15); }
}  // namespace emulation
#define LABELPENET_LAUNCH(kernel, ...) emulation::launch(kernel, __VA_ARGS__)
#define LABELPENET_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(emulation::dyn_smem())
inline int sync_flag(int p) {
  emulation::S().cur->flag = p;
  emulation::pause(emulation::kBlock);
  return emulation::S().block_count;
}
inline void __syncthreads() { sync_flag(0); }
inline int __syncthreads_or(int p) { return sync_flag(p) > 0; }
inline int __syncthreads_count(int p) { return sync_flag(p); }
inline void __syncwarp(uint32_t m = ~0u) { emulation::warp_sync(m); }
inline void __threadfence() {}
template <class T>
T __shfl_sync(uint32_t m, T v, int src, int w = 32) {
  int l = emulation::S().cur->lane;
  return emulation::pick(m, v, (l & ~(w - 1)) | (src & (w - 1)));
}
template <class T>
T __shfl_down_sync(uint32_t m, T v, unsigned d, int w = 32) {
  int l = emulation::S().cur->lane;
  return emulation::pick(m, v, (l & (w - 1)) + (int)d < w ? l + (int)d : l);
}
template <class T>
T __shfl_up_sync(uint32_t m, T v, unsigned d, int w = 32) {
  int l = emulation::S().cur->lane;
  return emulation::pick(m, v, (l & (w - 1)) >= (int)d ? l - (int)d : l);
}
template <class T>
T __shfl_xor_sync(uint32_t m, T v, int x, int = 32) {
  return emulation::pick(m, v, emulation::S().cur->lane ^ x);
}
inline uint32_t __ballot_sync(uint32_t m, int p) {
  uint64_t o[32];
  emulation::exchange(m, p, o);
  uint32_t r = 0;
  for (int i = 0; i < 32; ++i)
    if (m >> i & 1 && (int)o[i]) r |= 1u << i;
  return r;
}
template <class T>
uint32_t __match_any_sync(uint32_t m, T v) {  // integers only, as on the device
  uint64_t o[32], mine = 0;
  std::memcpy(&mine, &v, sizeof v);
  emulation::exchange(m, v, o);
  uint32_t r = 0;
  for (int i = 0; i < 32; ++i)
    if (m >> i & 1 && o[i] == mine) r |= 1u << i;
  return r;
}
inline int __any_sync(uint32_t m, int p) { return __ballot_sync(m, p) != 0; }
inline int __all_sync(uint32_t m, int p) { return __ballot_sync(m, p) == m; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T atomicAdd(T* p, T v) {
  T o = *p;
  *p = o + v;
  return o;
}  // fibers never preempt each other
template <class T>
T atomicMax(T* p, T v) {
  T o = *p;
  *p = std::max(o, v);
  return o;
}
template <class T>
T atomicMin(T* p, T v) {
  T o = *p;
  *p = std::min(o, v);
  return o;
}
template <class T>
T atomicOr(T* p, T v) {
  T o = *p;
  *p = o | v;
  return o;
}
template <class T>
T atomicExch(T* p, T v) {
  T o = *p;
  *p = v;
  return o;
}
template <class T>
T atomicCAS(T* p, T c, T v) {
  T o = *p;
  if (o == c) *p = v;
  return o;
}
using std::max;
using std::min;
