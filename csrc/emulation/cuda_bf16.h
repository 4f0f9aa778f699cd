// Host stand-in for <cuda_bf16.h>: storage, conversions, and the larger of two.
#pragma once
#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 h) {
  const uint32_t bits = static_cast<uint32_t>(h.bits) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
// Round to nearest, ties to even; NaN stays NaN.
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (x != x) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
// The larger of two, in pairs; a NaN loses.
inline __nv_bfloat162 __hmax2(__nv_bfloat162 a, __nv_bfloat162 b) {
  const auto larger = [](__nv_bfloat16 p, __nv_bfloat16 q) {
    const float u = __bfloat162float(p), v = __bfloat162float(q);
    return v > u || u != u ? q : p;
  };
  return {larger(a.x, b.x), larger(a.y, b.y)};
}
