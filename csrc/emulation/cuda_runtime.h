// Host stand-in for <cuda_runtime.h>: the words of CUDA that the project's kernels use, so that the
// same .cu files run on CPU fibers (fibers.h) and their indexing, barriers and warp collectives are
// tested without a GPU. Not a performance tool, and no simulator of CUDA's memory model.
//
// A kernel that needs a word that is missing adds it here: small, generic, with CUDA's semantics.
#pragma once
#include <cmath>

#include "emulation/fibers.h"

// ---- qualifiers --------------------------------------------------------------------------------
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __constant__ static
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time, so one copy is the block's copy

// ---- vector types ------------------------------------------------------------------------------
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
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// ---- the runtime: one device, whose memory is the host's, and streams that are always done -----
using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin, cudaDevAttrMultiProcessorCount };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int /*device*/) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 2 : 96 << 10;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) {
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t = nullptr) {
  std::memset(data, value, bytes);
  return cudaSuccess;
}

// ---- launching, in place of core/cuda_launch.cuh's <<<>>> --------------------------------------
#define LABELPENET_LAUNCH(kernel, ...) emulation::launch(kernel, __VA_ARGS__)
#define LABELPENET_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(emulation::dynamic_shared())

// ---- barriers ----------------------------------------------------------------------------------
inline void __syncthreads() { emulation::sync_block(0); }
inline int __syncthreads_or(int predicate) { return emulation::sync_block(predicate) > 0; }
inline int __syncthreads_count(int predicate) { return emulation::sync_block(predicate); }
inline void __syncwarp(uint32_t mask = ~0u) { emulation::sync_warp(mask); }
inline void __threadfence() {}

// ---- warp collectives; `width` splits the warp into parts that shuffle for themselves ----------
template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32) {
  const int lane = emulation::machine().current->lane;
  return emulation::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32) {
  const int lane = emulation::machine().current->lane, step = static_cast<int>(delta);
  return emulation::shuffle(mask, value, (lane & (width - 1)) + step < width ? lane + step : lane);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32) {
  const int lane = emulation::machine().current->lane, step = static_cast<int>(delta);
  return emulation::shuffle(mask, value, (lane & (width - 1)) >= step ? lane - step : lane);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, int = 32) {
  return emulation::shuffle(mask, value, emulation::machine().current->lane ^ bits);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
  uint64_t values[32];
  emulation::exchange(mask, predicate, values);
  uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) && values[lane] != 0) votes |= 1u << lane;
  return votes;
}
template <class T>
uint32_t __match_any_sync(uint32_t mask, T value) {  // integers only, as on the device
  uint64_t values[32], own = 0;
  std::memcpy(&own, &value, sizeof value);
  emulation::exchange(mask, value, values);
  uint32_t equal = 0;
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) && values[lane] == own) equal |= 1u << lane;
  return equal;
}
inline int __any_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(uint32_t mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

// ---- integers and loads ------------------------------------------------------------------------
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
template <class T>
T __ldg(const T* address) {
  return *address;
}
using std::max;
using std::min;

// ---- atomics: plain, for fibers never interrupt each other; each returns the old value ---------
template <class T>
T atomicAdd(T* address, T value) {
  return std::exchange(*address, *address + value);
}
template <class T>
T atomicMax(T* address, T value) {
  return std::exchange(*address, std::max(*address, value));
}
template <class T>
T atomicMin(T* address, T value) {
  return std::exchange(*address, std::min(*address, value));
}
template <class T>
T atomicOr(T* address, T value) {
  return std::exchange(*address, *address | value);
}
template <class T>
T atomicExch(T* address, T value) {
  return std::exchange(*address, value);
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
  return std::exchange(*address, *address == expected ? value : *address);
}
