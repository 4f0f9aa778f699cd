// For eight maps at a time: their table, then every region's runs.
#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "core/parallel.hpp"
#include "matching/matching.hpp"
#include "matching/matching_math.hpp"
#include "matching/matching_simd.hpp"

namespace labelpenet {
namespace {

// The table of maps [first, first + lanes): `pixels` + 1 places of kMapLanes running sums.
void fill_table(const RegionSumsArgs& a, int64_t first, int lanes, int64_t* table, int64_t* totals,
                int threads) {
  const MatchingLoops& loops = LABELPENET_PICK(kMatchingLoops);
  const float* maps = a.maps + first * a.height * a.width;
  constexpr int kColumns = 16;  // a cache line of each row
  parallel_for(a.width, kColumns, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t x = begin; x < end; x += kColumns)
      loops.columns(maps, lanes, a.height, a.width, static_cast<int>(x),
                    static_cast<int>(std::min<int64_t>(x + kColumns, end)), table, totals);
  });
  int64_t sum[kMapLanes] = {};
  for (int x = 0; x < a.width; ++x)
    for (int m = 0; m < kMapLanes; ++m)
      sum[m] += std::exchange(totals[int64_t{x} * kMapLanes + m], sum[m]);
  parallel_for(a.width, kColumns, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t x = begin; x < end; ++x)
      loops.raise(totals + x * kMapLanes, a.height, table + x * a.height * kMapLanes);
  });
  std::copy(sum, sum + kMapLanes, table + int64_t{a.height} * a.width * kMapLanes);
}

}  // namespace

void region_sums_cpu(const RegionSumsArgs& a, int threads) {
  const MatchingLoops& loops = LABELPENET_PICK(kMatchingLoops);
  const int64_t pixels = int64_t{a.height} * a.width;
  // not a vector: its zeros would cost a pass over megabytes
  const std::unique_ptr<int64_t[]> table(new int64_t[(pixels + 1) * kMapLanes]);
  const std::unique_ptr<int64_t[]> totals(new int64_t[int64_t{a.width} * kMapLanes]);
  std::atomic<bool> valid{true};
  for (int64_t r = 0; r < a.regions; ++r)
    if (a.offsets[r] < 0 || a.offsets[r] > a.offsets[r + 1] || a.offsets[r + 1] > a.runs) {
      a.status[0] = 1;
      return;
    }
  // areas are wanted even where there is no map
  for (int64_t first = 0; first == 0 || first < a.num_maps; first += kMapLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(kMapLanes, a.num_maps - first));
    fill_table(a, first, lanes, table.get(), totals.get(), threads);
    parallel_for(a.regions, 16, threads, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        RunTotals run;
        loops.add_runs(table.get(), a.counts + a.offsets[r], a.offsets[r + 1] - a.offsets[r],
                       pixels, &run);
        a.areas[r] = run.area;
        for (int m = 0; m < lanes; ++m)
          a.sums[(first + m) * a.regions + r] = from_fixed(run.sums[m]);
        if (!run.valid) valid = false;
      }
    });
  }
  a.status[0] = !valid;
}

}  // namespace labelpenet
