#include "nms/nms_simd.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace labelpenet::LABELPENET_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kNative = 16;
#elif defined(__AVX2__)
constexpr int kNative = 8;
#else
constexpr int kNative = 4;
#endif
static_assert(kNative <= kNmsPad);
typedef float Floats __attribute__((vector_size(4 * kNative)));
typedef int32_t Ints __attribute__((vector_size(4 * kNative)));
typedef float LooseFloats __attribute__((vector_size(4 * kNative), aligned(4), may_alias));

inline Floats read(const float* p) { return *reinterpret_cast<const LooseFloats*>(p); }
inline Floats same(float x) { return Floats{} + x; }

// Bit i is set where lane i of a comparison holds.
inline unsigned bits(Ints mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask));
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_ps(reinterpret_cast<__m128>(mask)));
#else
  unsigned all = 0;
  for (int i = 0; i < kNative; ++i) all |= static_cast<unsigned>(mask[i] & 1) << i;
  return all;
#endif
}

// The same operations in the same order as box_iou in nms_math.hpp.
int64_t suppress(const NmsCandidates& c, int64_t kept, int64_t end, float threshold,
                 int32_t* hits) {
  const Floats x1 = same(c.x1[kept]), y1 = same(c.y1[kept]), x2 = same(c.x2[kept]),
               y2 = same(c.y2[kept]), area = same(c.area[kept]), limit = same(threshold), zero{};
  int64_t count = 0;
  for (int64_t i = kept + 1; i < end; i += kNative) {
    const Floats ox1 = read(c.x1 + i), oy1 = read(c.y1 + i), ox2 = read(c.x2 + i),
                 oy2 = read(c.y2 + i);
    const Floats width = (x2 < ox2 ? x2 : ox2) - (x1 > ox1 ? x1 : ox1);
    const Floats height = (y2 < oy2 ? y2 : oy2) - (y1 > oy1 ? y1 : oy1);
    const Floats both = (width > zero ? width : zero) * (height > zero ? height : zero);
    const Floats either = area + read(c.area + i) - both;
    // Division is dear and rarely needed. Rounding is monotone, so a rounded quotient above the
    // limit implies both >= limit * either, rounded; the few that pass are divided.
    if (!bits(both >= limit * either)) continue;
    for (unsigned above = bits(both / either > limit); above; above &= above - 1) {
      const int64_t hit = i + __builtin_ctz(above);
      c.x1[hit] = __builtin_inff();
      c.x2[hit] = -__builtin_inff();
      hits[count++] = static_cast<int32_t>(hit);
    }
  }
  return count;
}

}  // namespace

extern const NmsLoops kNmsLoops = {suppress};

}  // namespace labelpenet::LABELPENET_ISA
