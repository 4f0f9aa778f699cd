// The loops of peaks_simd.cpp, compiled once per instruction set.
#pragma once
#include "core/simd.hpp"

namespace labelpenet {

struct PeakLoops {
  // out[i] = weight * (a[i] + b[i]) + out[i], n times.
  void (*add_pair)(const float* a, const float* b, float weight, int n, float* out);
  // out[i] = the response of value[i], n times.
  void (*respond)(const float* value, const float* blurred, float mean, int n, float* out);
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(PeakLoops, kPeakLoops)
