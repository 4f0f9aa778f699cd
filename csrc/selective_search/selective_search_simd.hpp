// The inner loops of selective search that are compiled once per instruction set.
#pragma once
#include <cstdint>

#include "core/simd.hpp"

namespace labelpenet {

constexpr int kFilterRadius = 2;  // of the blur and of the derivatives
constexpr int kFilterTaps = 2 * kFilterRadius + 1;

struct SelectiveSearchLoops {
  // Gaussian of sigma 0.8 in two passes. Columns: rows[5][n] -> out[n] in 1/256 levels; row:
  // in[n + 4] -> out[n] in 1/256 levels.
  void (*blur_columns)(const uint8_t* const* rows, int n, uint16_t* out);
  void (*blur_row)(const uint16_t* in, int n, uint16_t* out);
  // out[i] = Euclidean distance of the `channels` pairs a[c][i], b[c][i], rounded down to 1/128
  // level.
  void (*distances)(const uint16_t* const* a, const uint16_t* const* b, int channels, int n,
                    uint16_t* out);
  // Gaussian derivatives of sigma 1. Columns: rows[5][n] -> smoothed and derived; row: those with
  // n + 4 entries -> out[n], the slots of the four directions, one to a byte.
  void (*derive_columns)(const uint8_t* const* rows, int n, int16_t* smooth, int16_t* slope);
  void (*derive_row)(const int16_t* smooth, const int16_t* slope, int n, uint32_t* out);
  // sum of min(a[i], b[i]); n a multiple of 32.
  int32_t (*intersection)(const int16_t* a, const int16_t* b, int n);
  // out[i] = floor(counts[i] * scale); n a multiple of 32.
  void (*normalize)(const int32_t* counts, float scale, int n, int16_t* out);
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(SelectiveSearchLoops, kSelectiveSearchLoops)
