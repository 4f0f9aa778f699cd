// The inner loop of NMS on the CPU, compiled once per instruction set.
#pragma once
#include <cstdint>

#include "core/simd.hpp"

namespace labelpenet {

constexpr int kNmsPad = 16;  // dead boxes behind the last candidate, so that loops need no tail

// Boxes not suppressed yet, by falling score, one array per coordinate. A suppressed one is marked
// dead (x1 = inf, x2 = -inf: it overlaps nothing) until the arrays are packed again.
struct NmsCandidates {
  float* x1;
  float* y1;
  float* x2;
  float* y2;
  float* area;
};

struct NmsLoops {
  // Marks dead every candidate in (kept, end) whose IoU with candidate `kept` is above `threshold`
  // and writes their positions to `hits`; returns how many.
  int64_t (*suppress)(const NmsCandidates& candidates, int64_t kept, int64_t end, float threshold,
                      int32_t* hits);
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(NmsLoops, kNmsLoops)
