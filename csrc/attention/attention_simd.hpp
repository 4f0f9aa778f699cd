// The loops of attention_simd.cpp, compiled once per instruction set.
#pragma once
#include "attention/attention_math.hpp"
#include "core/simd.hpp"

namespace labelpenet {

struct AttentionLoops {
  // The samples of an axis's pixels; each array has axis.end - axis.begin elements.
  void (*sample_pixels)(const Axis& axis, int cells, int* cell, float* fraction);
  // A row of cells at n samples: to[i] = lerp(row[cell[i]], row[next], fraction[i]).
  void (*expand)(const float* row, int cells, const int* cell, const float* fraction, int n,
                 float* to);
  // out[i] += lerp(above[i], below[i], fraction), n times.
  void (*add_between)(const float* above, const float* below, float fraction, int n, float* out);
  // out[i] = unit * (steps[0] + ... + steps[i]), n times.
  void (*integrate)(const int64_t* steps, double unit, int n, float* out);
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(AttentionLoops, kAttentionLoops)
