// The loops of excitation_simd.cpp, compiled once per instruction set.
#pragma once
#include "core/simd.hpp"
#include "excitation/excitation.hpp"

namespace labelpenet {

struct ExcitationLoops {
  void (*start)(const ExcitationStart& args, int64_t begin, int64_t end);  // proposals
  void (*ratio)(const ExcitationRatio& args, int64_t begin, int64_t end);  // units
  // proposals; `lanes` is scratch of kSumLanes * args.cells floats
  void (*sum)(const ExcitationSum& args, int64_t begin, int64_t end, float* lanes);
};

// Channels that are summed side by side: their pixels lie in a row, so the loop over kSumLanes *
// cells values fills whole vectors whatever the number of cells (49 fills no vector).
constexpr int64_t kSumLanes = 16;

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(ExcitationLoops, kExcitationLoops)
