#include "selective_search/selective_search_simd.hpp"

#include <cmath>

namespace labelpenet::LABELPENET_ISA {
extern const SelectiveSearchLoops kSelectiveSearchLoops;
namespace {

// exp(-x^2 / 2 sigma^2), sigma 0.8, in 256ths.
constexpr int kBlur[3] = {128, 58, 6};
// The Gaussian of sigma 1 in 64ths, and minus its derivative: a slope of 1 gives 74 = 2 (18 + 2*8 +
// 3*1) at full width, 2 (18 + 2*8) = 68 at this radius.
constexpr int kSmooth[3] = {26, 15, 4};
constexpr int kSlope[3] = {0, 18, 8};
constexpr int kUnitSlope = 64 * 68;
constexpr float kBinWidth = 8.0f;  // grey levels per pixel
constexpr float kBinsPerUnit = 1.0f / (kBinWidth * kUnitSlope);
constexpr float kDiagonal = 0.70710678f;
constexpr int kBins = 10;

void blur_columns(const uint8_t* const* rows, int n, uint16_t* __restrict out) {
  const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3], *e = rows[4];
  for (int i = 0; i < n; ++i)
    out[i] = static_cast<uint16_t>(kBlur[0] * c[i] + kBlur[1] * (b[i] + d[i]) +
                                   kBlur[2] * (a[i] + e[i]));
}

void blur_row(const uint16_t* in, int n, uint16_t* __restrict out) {
  for (int i = 0; i < n; ++i) {
    const int sum =
        kBlur[0] * in[i + 2] + kBlur[1] * (in[i + 1] + in[i + 3]) + kBlur[2] * (in[i] + in[i + 4]);
    out[i] = static_cast<uint16_t>((sum + (1 << 7)) >> 8);
  }
}

void distances(const uint16_t* const* a, const uint16_t* const* b, int channels, int n,
               uint16_t* __restrict out) {
  if (channels == 1) {
    const uint16_t *p = a[0], *q = b[0];
    for (int i = 0; i < n; ++i) {
      const int d = p[i] - q[i];
      out[i] = static_cast<uint16_t>((d < 0 ? -d : d) >> 1);
    }
    return;
  }
  const uint16_t *p0 = a[0], *p1 = a[1], *p2 = a[2], *q0 = b[0], *q1 = b[1], *q2 = b[2];
  for (int i = 0; i < n; ++i) {
    const auto d0 = static_cast<float>(p0[i] - q0[i]), d1 = static_cast<float>(p1[i] - q1[i]),
               d2 = static_cast<float>(p2[i] - q2[i]);
    out[i] = static_cast<uint16_t>(static_cast<int>(std::sqrt(d0 * d0 + d1 * d1 + d2 * d2) * 0.5f));
  }
}

void derive_columns(const uint8_t* const* rows, int n, int16_t* __restrict smooth,
                    int16_t* __restrict slope) {
  const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3], *e = rows[4];
  for (int i = 0; i < n; ++i) {
    smooth[i] = static_cast<int16_t>(kSmooth[0] * c[i] + kSmooth[1] * (b[i] + d[i]) +
                                     kSmooth[2] * (a[i] + e[i]));
    slope[i] = static_cast<int16_t>(kSlope[1] * (d[i] - b[i]) + kSlope[2] * (e[i] - a[i]));
  }
}

// The slot of a response in bins.
inline uint32_t slot(float response) {
  const int size = static_cast<int>(response < 0 ? -response : response);
  const int bin = size < kBins - 1 ? size : kBins - 1;
  return static_cast<uint32_t>(
      bin + kBins * (static_cast<int>(response < 0) & static_cast<int>(bin > 0)));
}

void derive_row(const int16_t* smooth, const int16_t* slope, int n, uint32_t* __restrict out) {
  for (int i = 0; i < n; ++i) {
    const int dx =
        kSlope[1] * (smooth[i + 3] - smooth[i + 1]) + kSlope[2] * (smooth[i + 4] - smooth[i]);
    const int dy = kSmooth[0] * slope[i + 2] + kSmooth[1] * (slope[i + 1] + slope[i + 3]) +
                   kSmooth[2] * (slope[i] + slope[i + 4]);
    // A Gaussian derivative in any direction is a sum of the two along the axes.
    constexpr float kDiagonalBinsPerUnit = kBinsPerUnit * kDiagonal;
    out[i] = slot(static_cast<float>(dx) * kBinsPerUnit) |
             slot(static_cast<float>(dx + dy) * kDiagonalBinsPerUnit) << 8 |
             slot(static_cast<float>(dy) * kBinsPerUnit) << 16 |
             slot(static_cast<float>(dy - dx) * kDiagonalBinsPerUnit) << 24;
  }
}

int32_t intersection(const int16_t* a, const int16_t* b, int n) {
  int32_t sum = 0;
  for (int i = 0; i < n; ++i) sum += a[i] < b[i] ? a[i] : b[i];
  return sum;
}

void normalize(const int32_t* counts, float scale, int n, int16_t* __restrict out) {
  for (int i = 0; i < n; ++i)
    out[i] = static_cast<int16_t>(static_cast<int>(static_cast<float>(counts[i]) * scale));
}

}  // namespace

const SelectiveSearchLoops kSelectiveSearchLoops = {
    blur_columns, blur_row, distances, derive_columns, derive_row, intersection, normalize};

}  // namespace labelpenet::LABELPENET_ISA
