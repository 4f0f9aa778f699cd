// One cell of a map: its blur, its response, and whether it is a peak. C++17.
#pragma once
#include <cstdint>

#include "core/host_device.hpp"
#include "peaks/peaks.hpp"

namespace labelpenet {

// Beyond the edge a map goes on as its last cell.
LABELPENET_HD int held(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

// The Gaussian along one axis: cells `step` apart, this one at `i` of `size`. Pairs of the same
// distance are added first, so that a map and its mirror image have the same peaks.
LABELPENET_HD float blur(const float* line, int64_t step, int i, int size, const float* weights,
                         int radius) {
  float sum = weights[0] * line[i * step];
  for (int d = 1; d <= radius; ++d)
    sum += weights[d] * (line[held(i - d, size) * step] + line[held(i + d, size) * step]);
  return sum;
}

// NaN becomes 0.
LABELPENET_HD float peak_response(float value, float blurred, float mean) {
  const float response = (value - blurred) - mean;
  return response > 0.f && response - response == 0.f ? response : 0.f;
}

// Of equal responses the first one, by row and column, is the peak.
LABELPENET_HD bool is_peak(const float* response, int y, int x, int height, int width, int reach,
                           float threshold) {
  const float own = response[int64_t{y} * width + x];
  if (!(own > threshold)) return false;
  const int top = y > reach ? y - reach : 0, left = x > reach ? x - reach : 0;
  const int bottom = y + reach < height ? y + reach : height - 1;
  const int right = x + reach < width ? x + reach : width - 1;
  for (int v = top; v <= bottom; ++v)
    for (int u = left; u <= right; ++u) {
      const float other = response[int64_t{v} * width + u];
      if (other > own || (other == own && (v < y || (v == y && u < x)))) return false;
    }
  return true;
}

}  // namespace labelpenet
