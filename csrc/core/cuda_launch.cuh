// What every .cu file uses to launch: the same line runs on a device (nvcc) and on CPU fibers
// (csrc/emulation/cuda_runtime.h, which defines LABELPENET_LAUNCH first).
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#ifndef LABELPENET_LAUNCH
// LABELPENET_LAUNCH(kernel, grid, block, shared_bytes, stream)(arguments...)
#define LABELPENET_LAUNCH(kernel, ...) kernel<<<__VA_ARGS__>>>
// Declares `T* name`, the launch's dynamic shared memory (16-byte aligned).
#define LABELPENET_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char labelpenet_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(labelpenet_dynamic_shared)
#endif

namespace labelpenet {

inline void cuda_check(cudaError_t error, const char* where) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // forgotten here, so that no later launch is blamed for it
  throw std::runtime_error(std::string(where) + ": CUDA: " + cudaGetErrorString(error));
}

// After every launch: a bad configuration shows here, not at the next unrelated call.
inline void cuda_check_launch(const char* kernel) { cuda_check(cudaGetLastError(), kernel); }

// A grid's x dimension; y and z end at kMaxGridYZ already.
inline unsigned blocks_for(int64_t items, int per_block) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  if (blocks > INT32_MAX)
    throw std::invalid_argument("too large for one launch: " + std::to_string(blocks) + " blocks");
  return static_cast<unsigned>(blocks);
}
constexpr int64_t kMaxGridYZ = 65535;

}  // namespace labelpenet
