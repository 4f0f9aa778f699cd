// Peaks of class activation maps (ICN, eq. 1): response = max(map - gaussian(map) - mean(map), 0),
// and where it is largest around.
//
// Both devices take the same sums in the same order: their results have the same bits. A map that
// is not finite has response 0 wherever a bad number touches it, so no peak there.
#pragma once
#include <cstdint>

namespace labelpenet {

constexpr int kMaxPeakRadius = 127;  // of the Gaussian, in cells: the weights travel by value

struct PeaksArgs {
  const float* maps;  // [M, H, W]
  float* response;    // [M, H, W], written; >= 0
  bool* peaks;        // [M, H, W], written: the largest response of its window, above `threshold`
  float* blurred;     // [M, H, W] scratch: blurred along the rows
  double* sums;       // [M, H] scratch: sum of each row
  int64_t num_maps;
  int height, width;
  int radius;                         // of the Gaussian, in cells
  float weights[kMaxPeakRadius + 1];  // of the cells at distance 0 to radius; they sum to 1
  int reach;                          // a window is 2 * reach + 1 cells a side
  float threshold;                    // >= 0
};

void peaks_cpu(const PeaksArgs& args, int threads);
void peaks_cuda(const PeaksArgs& args, void* stream);

}  // namespace labelpenet
