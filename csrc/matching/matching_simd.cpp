// Eight maps at a time in the lanes of a vector; whole numbers, so the same bits everywhere.
#include "matching/matching_simd.hpp"

#include "matching/matching_math.hpp"

namespace labelpenet {
namespace {

void columns(const float* maps, int lanes, int height, int width, int first, int last,
             int64_t* table, int64_t* totals) {
  const int64_t pixels = int64_t{height} * width;
  for (int x = first; x < last; ++x) {
    int64_t sum[kMapLanes] = {};
    int64_t* out = table + int64_t{x} * height * kMapLanes;
    for (int y = 0; y < height; ++y, out += kMapLanes) {
      const float* pixel = maps + int64_t{y} * width + x;
      float value[kMapLanes] = {};
      for (int m = 0; m < lanes; ++m) value[m] = pixel[m * pixels];
      for (int m = 0; m < kMapLanes; ++m) out[m] = sum[m];
      for (int m = 0; m < kMapLanes; ++m) sum[m] += to_fixed(value[m]);
    }
    for (int m = 0; m < kMapLanes; ++m) totals[int64_t{x} * kMapLanes + m] = sum[m];
  }
}

void raise(const int64_t* base, int64_t places, int64_t* table) {
  int64_t own[kMapLanes];
  for (int m = 0; m < kMapLanes; ++m) own[m] = base[m];
  for (int64_t p = 0; p < places; ++p)
    for (int m = 0; m < kMapLanes; ++m) table[p * kMapLanes + m] += own[m];
}

void add_runs(const int64_t* __restrict table, const int32_t* __restrict counts, int64_t runs,
              int64_t pixels, RunTotals* totals) {
  int64_t sum[kMapLanes] = {};
  int64_t place = 0, area = 0;
  bool valid = true;
  for (int64_t i = 0; i < runs; ++i) {
    valid &= counts[i] >= 0;
    const int64_t begin = place;
    place = inside(begin + counts[i], pixels);
    valid &= place - begin == counts[i];
    if (i % 2 == 0) continue;
    area += place - begin;
    const int64_t* above = table + begin * kMapLanes;
    const int64_t* below = table + place * kMapLanes;
    for (int m = 0; m < kMapLanes; ++m) sum[m] += below[m] - above[m];
  }
  for (int m = 0; m < kMapLanes; ++m) totals->sums[m] = sum[m];
  totals->area = area;
  totals->valid = valid && place == pixels;
}

}  // namespace

namespace LABELPENET_ISA {
extern const MatchingLoops kMatchingLoops;
const MatchingLoops kMatchingLoops = {columns, raise, add_runs};
}  // namespace LABELPENET_ISA
}  // namespace labelpenet
