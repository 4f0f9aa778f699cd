#include <algorithm>
#include <vector>

#include "core/parallel.hpp"
#include "excitation/excitation_simd.hpp"

namespace labelpenet {
namespace {

// Values that one thread takes at a time: far more work than handing them out.
constexpr int64_t kGrain = 1 << 16;

int64_t rows_per_grain(int64_t row) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, row));
}

}  // namespace

void excitation_start_cpu(const ExcitationStart& args, int threads) {
  const ExcitationLoops& loops = LABELPENET_PICK(kExcitationLoops);
  parallel_for(args.proposals, rows_per_grain(args.units), threads,
               [&](int64_t begin, int64_t end, int) { loops.start(args, begin, end); });
}

void excitation_ratio_cpu(const ExcitationRatio& args, int threads) {
  const ExcitationLoops& loops = LABELPENET_PICK(kExcitationLoops);
  parallel_for(args.count, kGrain, threads,
               [&](int64_t begin, int64_t end, int) { loops.ratio(args, begin, end); });
}

void excitation_sum_cpu(const ExcitationSum& args, int threads) {
  const ExcitationLoops& loops = LABELPENET_PICK(kExcitationLoops);
  parallel_for(args.proposals, rows_per_grain(args.channels * args.cells), threads,
               [&](int64_t begin, int64_t end, int) {
                 std::vector<float> lanes(kSumLanes * args.cells);
                 loops.sum(args, begin, end, lanes.data());
               });
}

}  // namespace labelpenet
