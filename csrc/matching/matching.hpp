// Sums of maps over segments that are given as run lengths: what the matching score of ICN (eq. 5)
// is made of. Nothing of size [R, H, W] exists: a map becomes a table of running sums down its
// columns, and a run costs two look-ups.
//
// Sums are taken in fixed point, units of 2^-32: exact, so in any order and on any device the same.
#pragma once
#include <cstdint>

namespace labelpenet {

// A pixel's place is counted down the columns, one column after the other, as run lengths are.
struct RegionSumsArgs {
  const float* maps;       // [M, H, W], magnitudes up to 1
  const int32_t* counts;   // [N] lengths of runs, each region's beginning with one of zeros
  const int64_t* offsets;  // [R + 1] into `counts`, rising
  int64_t* table;          // [M, H, W] scratch of the device kernel; the CPU's is its own
  int64_t* base;           // [M, W + 1] likewise
  float* sums;             // [M, R], written
  int64_t* areas;          // [R] pixels of each region, written
  int64_t* status;         // [1] on the CPU, written: 1 where a region's runs do not fill the image
  int64_t num_maps, regions, runs;
  int height, width;
};

void region_sums_cpu(const RegionSumsArgs& args, int threads);
void region_sums_cuda(const RegionSumsArgs& args, void* stream);

}  // namespace labelpenet
