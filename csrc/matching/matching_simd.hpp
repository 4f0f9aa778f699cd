// The loops of matching_simd.cpp, compiled once per instruction set.
#pragma once
#include <cstdint>

#include "core/simd.hpp"

namespace labelpenet {

constexpr int kMapLanes = 8;  // maps whose tables are interleaved: one cache line a look-up

// What one region's runs came to.
struct RunTotals {
  int64_t sums[kMapLanes];
  int64_t area;
  bool valid;  // no run is negative, and together they fill the image
};

struct MatchingLoops {
  // Running sums down columns [first, last) of `lanes` maps [height, width], each column's from 0:
  // table[place][lane] is the sum of its column above the place.
  void (*columns)(const float* maps, int lanes, int height, int width, int first, int last,
                  int64_t* table, int64_t* totals);
  // Adds a column's base to its places.
  void (*raise)(const int64_t* base, int64_t places, int64_t* table);
  void (*add_runs)(const int64_t* table, const int32_t* counts, int64_t runs, int64_t pixels,
                   RunTotals* totals);
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(MatchingLoops, kMatchingLoops)
