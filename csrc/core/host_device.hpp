// Marks the functions of <op>_math.hpp that CPU loops and CUDA kernels share. C++17 (nvcc).
#pragma once

#if defined(__CUDACC__)
#define LABELPENET_HD __host__ __device__ __forceinline__
#else
#define LABELPENET_HD inline
#endif
