#include "core/cuda_launch.cuh"
#include "core/device.hpp"

namespace labelpenet {

int set_device(int device) {
  int previous = 0;
  cuda_check(cudaGetDevice(&previous), "cudaGetDevice");
  if (previous != device) cuda_check(cudaSetDevice(device), "cudaSetDevice");
  return previous;
}

void restore_device(int device) noexcept {
  int current = 0;
  if (cudaGetDevice(&current) == cudaSuccess && current != device) (void)cudaSetDevice(device);
}

int device_count(const char** why) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  *why = error == cudaSuccess ? "" : cudaGetErrorString(error);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return count;
}

}  // namespace labelpenet
