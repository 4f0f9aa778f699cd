// Host stand-in for <cuda_fp16.h>: storage, conversions, and the larger of two.
#pragma once
#include <cstdint>
#include <cstring>

struct __half {
  uint16_t bits;
};
inline float __half2float(__half h) {
  _Float16 value;
  std::memcpy(&value, &h, sizeof value);
  return static_cast<float>(value);
}
inline __half __float2half_rn(float x) {
  const _Float16 value = static_cast<_Float16>(x);
  __half h;
  std::memcpy(&h, &value, sizeof h);
  return h;
}
struct alignas(4) __half2 {
  __half x, y;
};
// The larger of two, in pairs; a NaN loses.
inline __half2 __hmax2(__half2 a, __half2 b) {
  const auto larger = [](__half p, __half q) {
    const float u = __half2float(p), v = __half2float(q);
    return v > u || u != u ? q : p;
  };
  return {larger(a.x, b.x), larger(a.y, b.y)};
}
