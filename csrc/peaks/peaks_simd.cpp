// Plain loops that the compiler widens; the same bits on every instruction set.
#include "peaks/peaks_simd.hpp"

namespace labelpenet {
namespace {

void add_pair(const float* __restrict a, const float* __restrict b, float weight, int n,
              float* __restrict out) {
  for (int i = 0; i < n; ++i) out[i] += weight * (a[i] + b[i]);
}

// peak_response() of peaks_math.hpp, which this file must not share (see core/simd.hpp).
void respond(const float* __restrict value, const float* __restrict blurred, float mean, int n,
             float* __restrict out) {
  for (int i = 0; i < n; ++i) {
    const float response = (value[i] - blurred[i]) - mean;
    out[i] = response > 0.f && response - response == 0.f ? response : 0.f;
  }
}

}  // namespace

namespace LABELPENET_ISA {
extern const PeakLoops kPeakLoops;
const PeakLoops kPeakLoops = {add_pair, respond};
}  // namespace LABELPENET_ISA
}  // namespace labelpenet
