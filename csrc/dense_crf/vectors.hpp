// Vectors for the *_simd.cpp files of this folder, and for no others: everything is in an anonymous
// namespace, because each instruction set needs its own copy (core/simd.hpp).
#pragma once
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed only inside one file
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>

#include "dense_crf/crf_loops.hpp"

namespace labelpenet::LABELPENET_ISA {
namespace {

// GCC vectors. Float16 is a block of pixels, whatever the registers: the compiler splits it.
typedef float Float16 __attribute__((vector_size(64)));
typedef int Int16 __attribute__((vector_size(64)));
typedef uint32_t Word16 __attribute__((vector_size(64)));
typedef float Float8 __attribute__((vector_size(32)));
typedef int Int8 __attribute__((vector_size(32)));

// What one register holds; and no more than 8 channels, the step of a row's length.
#if defined(__AVX512F__)
constexpr int kNative = 16;
#elif defined(__AVX2__)
constexpr int kNative = 8;
#else
constexpr int kNative = 4;
#endif
constexpr int kChannels = kNative < 8 ? kNative : 8;
typedef float Native __attribute__((vector_size(4 * kNative)));
typedef int NativeInt __attribute__((vector_size(4 * kNative)));
typedef float Channels __attribute__((vector_size(4 * kChannels)));

// A vector must not be passed in memory where registers could hold it.
#define LABELPENET_INLINE [[gnu::always_inline]] inline

template <class Vector, class T>
LABELPENET_INLINE Vector load(const T* p) {
  Vector v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class Vector, class T>
LABELPENET_INLINE void store(T* p, const Vector& v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Lanes I of the 16 lanes of a and then b.
template <int... I>
LABELPENET_INLINE Float8 shuffle(const Float8& a, const Float8& b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, I...);
#else
  return __builtin_shuffle(a, b, Int8{I...});
#endif
}

}  // namespace
}  // namespace labelpenet::LABELPENET_ISA
