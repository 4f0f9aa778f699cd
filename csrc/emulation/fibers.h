// The machine under the emulated <cuda_runtime.h>: one block at a time, a fiber (ucontext) per
// thread of it, all on the calling CPU thread. Fibers switch only where CUDA threads may wait for
// each other: at __syncthreads, in warp collectives, and when they end. Two threads of a block that
// touch the same memory between two such points are a race that this cannot show by timing, but an
// order of the fibers can: LABELPENET_EMULATION_ORDER is 0 (forward), 1 (reverse) or a seed >= 2.
//
// What it refuses, with block and thread in the message: collectives whose lanes disagree on the
// mask, that name a lane which has ended, or shuffle from a lane outside the mask; and blocks where
// some threads wait at __syncthreads for others that never come.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)  // which must be told of every change of stack
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMULATION_ASAN(statement) statement
#else
#define EMULATION_ASAN(statement)
#endif

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline uint3 threadIdx, blockIdx;  // of the fiber that runs
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulation {

constexpr size_t kStackBytes = 64 << 10;  // of a fiber
constexpr unsigned char kGarbage = 0xCB;  // in dynamic shared memory when a block starts

enum class Wait : uint8_t {
  kNone,   // runs when its turn comes
  kBlock,  // at __syncthreads
  kWarp,   // in a collective of its warp
  kEnded
};

struct Warp {
  uint64_t slots[32];     // the values that the lanes of a collective exchange
  uint32_t arrived = 0;   // lanes that wait in the collective under way
  uint32_t expected = 0;  // its mask
  uint32_t live = 0;      // lanes that have not ended
};

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  uint3 thread;
  int lane;
  Warp* warp;
  Wait wait;
  int predicate;               // what it brought to __syncthreads_or or _count
  void* asan_stack = nullptr;  // AddressSanitizer's handle
};

struct Machine {
  ucontext_t scheduler;
  std::vector<Fiber> fibers;  // of the largest block so far, for their stacks
  std::vector<Warp> warps;
  Fiber* current = nullptr;
  std::function<void()> kernel;  // with its arguments
  std::vector<char> dynamic_shared;
  std::string error;        // the first one; every fiber is then unwound
  int predicate_count = 0;  // of the last __syncthreads: how many brought a true predicate
  void* asan_stack = nullptr;
  const void* asan_bottom = nullptr;
  size_t asan_size = 0;
};

inline Machine& machine() {
  static Machine m;
  return m;
}

inline void switch_to_scheduler(bool ended) {
  Machine& m = machine();
  Fiber* self = m.current;
  (void)ended;  // AddressSanitizer then drops the fiber's stack
  EMULATION_ASAN(__sanitizer_start_switch_fiber(ended ? nullptr : &self->asan_stack, m.asan_bottom,
                                                m.asan_size);)
  swapcontext(&self->context, &m.scheduler);
  EMULATION_ASAN(__sanitizer_finish_switch_fiber(self->asan_stack, nullptr, nullptr);)
}

inline void switch_to(Fiber& fiber) {
  Machine& m = machine();
  m.current = &fiber;
  threadIdx = fiber.thread;
  EMULATION_ASAN(
      __sanitizer_start_switch_fiber(&m.asan_stack, fiber.stack.data(), fiber.stack.size());)
  swapcontext(&m.scheduler, &fiber.context);
  EMULATION_ASAN(__sanitizer_finish_switch_fiber(m.asan_stack, nullptr, nullptr);)
}

// Where every fiber starts.
inline void run_thread() {
  Machine& m = machine();
  EMULATION_ASAN(__sanitizer_finish_switch_fiber(nullptr, &m.asan_bottom, &m.asan_size);)
  try {
    m.kernel();
  } catch (const std::exception& error) {
    if (m.error.empty()) m.error = error.what();
  }
  m.current->wait = Wait::kEnded;
  m.current->warp->live &= ~(1u << m.current->lane);
  switch_to_scheduler(/*ended=*/true);
}

// Lets others run until the scheduler, or the last lane of a collective, clears `wait`.
inline void pause(Wait wait) {
  Machine& m = machine();
  m.current->wait = wait;
  switch_to_scheduler(/*ended=*/false);
  if (!m.error.empty()) throw std::runtime_error(m.error);  // unwinds this fiber
}

[[noreturn]] inline void fail(const std::string& what) {
  throw std::runtime_error("emulation: " + what + " (block " + std::to_string(blockIdx.x) + "," +
                           std::to_string(blockIdx.y) + " thread " + std::to_string(threadIdx.x) +
                           ")");
}

// Waits until every lane of `mask` is here.
inline void sync_warp(uint32_t mask) {
  Machine& m = machine();
  Fiber* self = m.current;
  Warp* warp = self->warp;
  if (!(mask >> self->lane & 1)) fail("lane calls a _sync collective outside its mask");
  if (warp->arrived == 0)
    warp->expected = mask;
  else if (warp->expected != mask)
    fail("lanes of one warp meet in a collective with different masks");
  if (mask & ~warp->live) fail("mask names a lane that has exited or does not exist");
  warp->arrived |= 1u << self->lane;
  if (warp->arrived != mask) return pause(Wait::kWarp);
  warp->arrived = 0;  // the last one in lets the others go
  for (Fiber& fiber : m.fibers)
    if (fiber.warp == warp && fiber.wait == Wait::kWarp && (mask >> fiber.lane & 1))
      fiber.wait = Wait::kNone;
}

// Every lane of `mask` gives a value and gets those of all, by lane.
template <class T>
void exchange(uint32_t mask, T value, uint64_t (&values)[32]) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a collective's value has at most 8 bytes");
  Fiber* self = machine().current;
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  self->warp->slots[self->lane] = bits;
  sync_warp(mask);
  std::memcpy(values, self->warp->slots, sizeof values);
  sync_warp(mask);  // nobody writes its next value before all have read
}

// The value that lane `source` gave; a lane's own where there is no such lane.
template <class T>
T shuffle(uint32_t mask, T value, int source) {
  uint64_t values[32];
  exchange(mask, value, values);
  if (source < 0 || source > 31) return value;
  if (!(mask >> source & 1)) fail("shuffle reads a lane outside the mask");
  T result;
  std::memcpy(&result, &values[source], sizeof result);
  return result;
}

// Waits for the whole block; returns how many threads brought a true predicate.
inline int sync_block(int predicate) {
  machine().current->predicate = predicate;
  pause(Wait::kBlock);
  return machine().predicate_count;
}

inline int order_from_environment() {
  const char* order = std::getenv("LABELPENET_EMULATION_ORDER");
  return order ? std::atoi(order) : 0;
}

// Gives the first `count` fibers their threads of the block, at the kernel's beginning.
inline void start_fibers(int count) {
  Machine& m = machine();
  m.warps.assign((count + 31) / 32, Warp());
  if (static_cast<int>(m.fibers.size()) < count) m.fibers.resize(count);
  for (Fiber& fiber : m.fibers) fiber.wait = Wait::kEnded;
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = m.fibers[i];
    fiber.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    fiber.lane = i % 32;
    fiber.warp = &m.warps[i / 32];
    fiber.warp->live |= 1u << fiber.lane;
    fiber.wait = Wait::kNone;
    fiber.stack.resize(kStackBytes);
    EMULATION_ASAN(ASAN_UNPOISON_MEMORY_REGION(fiber.stack.data(), kStackBytes);)
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_thread, 0);
  }
}

// Every live thread is at __syncthreads: counts the predicates and lets all go on.
inline void release_block(int count) {
  Machine& m = machine();
  m.predicate_count = 0;
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = m.fibers[i];
    if (fiber.wait != Wait::kBlock) continue;
    m.predicate_count += fiber.predicate != 0;
    fiber.wait = Wait::kNone;
  }
}

inline void run_block() {
  Machine& m = machine();
  const int count = blockDim.x * blockDim.y * blockDim.z;
  if (count > 1024 || count == 0) throw std::runtime_error("emulation: bad block size");
  start_fibers(count);

  const int order = order_from_environment();
  std::mt19937 random(order + blockIdx.x * 7919 + blockIdx.y);
  std::vector<int> turns(count);
  for (int i = 0; i < count; ++i) turns[i] = order == 1 ? count - 1 - i : i;
  for (;;) {
    if (order >= 2) std::shuffle(turns.begin(), turns.end(), random);
    int live = 0, ran = 0, at_barrier = 0;
    for (int i : turns) {
      Fiber& fiber = m.fibers[i];
      if (fiber.wait == Wait::kNone) {
        switch_to(fiber);
        ++ran;
      }
      live += fiber.wait != Wait::kEnded;
      at_barrier += fiber.wait == Wait::kBlock;
    }
    if (live == 0) break;
    if (ran > 0) continue;
    if (at_barrier == live && m.error.empty()) {
      release_block(count);
      continue;
    }
    if (m.error.empty())
      m.error = "emulation: deadlock: " + std::to_string(at_barrier) + " of " +
                std::to_string(live) +
                " live threads at __syncthreads, the rest in warp collectives";
    for (int i = 0; i < count; ++i)  // the error is set: each throws where it waits
      if (m.fibers[i].wait != Wait::kEnded) m.fibers[i].wait = Wait::kNone;
  }
  if (!m.error.empty()) throw std::runtime_error(std::exchange(m.error, {}));
}

// What `kernel<<<grid, block, shared_bytes, stream>>>` is here; called with the arguments.
template <class Kernel>
struct Launcher {
  Kernel kernel;
  dim3 grid, block;
  size_t shared_bytes;

  template <class... Arguments>
  void operator()(Arguments... arguments) {
    Machine& m = machine();
    // as a device refuses it; x has 31 bits, which blocks_for keeps
    constexpr unsigned kMostYZ = 65535, kMostThreads = 1024;
    const unsigned threads = block.x * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > kMostYZ || grid.z > kMostYZ ||
        threads == 0 || threads > kMostThreads)
      throw std::runtime_error("emulation: invalid configuration argument");
    m.dynamic_shared.resize(shared_bytes + 16);  // room to align it
    m.kernel = [=, this] { kernel(arguments...); };
    gridDim = grid;
    blockDim = block;
    for (unsigned z = 0; z < grid.z; ++z)
      for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx = {x, y, z};
          std::memset(m.dynamic_shared.data(), kGarbage, m.dynamic_shared.size());
          run_block();
        }
  }
};

template <class Kernel>
Launcher<Kernel> launch(Kernel kernel, dim3 grid, dim3 block, size_t shared_bytes = 0,
                        void* /*stream*/ = nullptr) {
  return {kernel, grid, block, shared_bytes};
}

inline void* dynamic_shared() {  // 16-byte aligned
  const uintptr_t address = reinterpret_cast<uintptr_t>(machine().dynamic_shared.data());
  return reinterpret_cast<void*>((address + 15) & ~uintptr_t{15});
}

}  // namespace emulation
