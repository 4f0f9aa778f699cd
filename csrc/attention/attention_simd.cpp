// The same operations in the same order on every instruction set: the same bits on all.
#include "attention/attention_simd.hpp"

namespace labelpenet {
namespace {

void sample_pixels(const Axis& axis, int cells, int* cell, float* fraction) {
  for (int i = 0; i < axis.end - axis.begin; ++i) {
    const Sample s = sample(axis, axis.begin + i, cells);
    cell[i] = s.cell;
    fraction[i] = s.fraction;
  }
}

void expand(const float* row, int cells, const int* cell, const float* fraction, int n, float* to) {
  for (int i = 0; i < n; ++i) {
    const int next = cell[i] + 1 < cells ? cell[i] + 1 : cell[i];
    to[i] = lerp(row[cell[i]], row[next], fraction[i]);
  }
}

void add_between(const float* above, const float* below, float fraction, int n, float* out) {
  for (int i = 0; i < n; ++i) out[i] += lerp(above[i], below[i], fraction);
}

void integrate(const int64_t* steps, double unit, int n, float* out) {
  int64_t sum = 0;
  for (int i = 0; i < n; ++i) {
    sum += steps[i];
    out[i] = static_cast<float>(static_cast<double>(sum) * unit);
  }
}

}  // namespace

namespace LABELPENET_ISA {
extern const AttentionLoops kAttentionLoops;
const AttentionLoops kAttentionLoops = {sample_pixels, expand, add_between, integrate};
}  // namespace LABELPENET_ISA
}  // namespace labelpenet
