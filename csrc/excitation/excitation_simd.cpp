// Every sum runs in an order that does not depend on the instruction set: the same bits on all.
#include "excitation/excitation_simd.hpp"

#include "excitation/excitation_math.hpp"

namespace labelpenet {
namespace {

constexpr int kLanes = 16;  // partial sums of a dot product, one vector register of AVX-512

float fold(float* lane) {
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) lane[i] += lane[i + step];
  return lane[0];
}

template <class T>
float positive_dot(const T* x, const T* weight, int64_t n, float sign) {
  float lane[kLanes] = {};
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes)
    for (int i = 0; i < kLanes; ++i)
      lane[i] += load(x[d + i]) * positive(sign * load(weight[d + i]));
  for (int i = 0; d + i < n; ++i) lane[i] += load(x[d + i]) * positive(sign * load(weight[d + i]));
  return fold(lane);
}

template <class T>
void start_rows(const ExcitationStart& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + r * a.units;
    const T* weight = static_cast<const T*>(a.weight) + a.classes[r] * a.units;
    T* gain = static_cast<T*>(a.gain) + r * a.units;
    const float plus = share<T>(a.start[r], positive_dot(x, weight, a.units, 1.f));
    const float minus =
        a.contrastive ? share<T>(a.start[r], positive_dot(x, weight, a.units, -1.f)) : 0.f;
    for (int64_t d = 0; d < a.units; ++d)
      store(start_gain<T>(load(weight[d]), plus, minus), gain + d);
  }
}

template <class T>
void ratio_units(const ExcitationRatio& a, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(a.x);
  const T* gain = static_cast<const T*>(a.gain);
  T* z = static_cast<T*>(a.z);
  for (int64_t i = begin; i < end; ++i)
    store(share<T>(in_range<float>(load(x[i]) * load(gain[i])), load(z[i])), z + i);
}

template <class T>
void sum_rows(const ExcitationSum& a, int64_t begin, int64_t end, float* lanes) {
  const int64_t row = a.channels * a.cells, block = kSumLanes * a.cells;
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + r * row;
    const T* gain = static_cast<const T*>(a.gain) + r * row;
    for (int64_t i = 0; i < block; ++i) lanes[i] = 0.f;
    for (int64_t from = 0; from < row; from += block) {
      const int64_t n = row - from < block ? row - from : block;
      for (int64_t i = 0; i < n; ++i)
        lanes[i] += in_range<float>(load(x[from + i]) * load(gain[from + i]));
    }
    float* map = a.maps + r * a.cells;
    for (int64_t s = 0; s < a.cells; ++s) {
      float total = lanes[s];
      for (int64_t lane = 1; lane < kSumLanes; ++lane) total += lanes[lane * a.cells + s];
      map[s] = a.clamp ? positive(total) : total;
    }
  }
}

void start(const ExcitationStart& a, int64_t begin, int64_t end) {
  (a.bfloat16 ? start_rows<BFloat16> : start_rows<float>)(a, begin, end);
}

void ratio(const ExcitationRatio& a, int64_t begin, int64_t end) {
  (a.bfloat16 ? ratio_units<BFloat16> : ratio_units<float>)(a, begin, end);
}

void sum(const ExcitationSum& a, int64_t begin, int64_t end, float* lanes) {
  (a.bfloat16 ? sum_rows<BFloat16> : sum_rows<float>)(a, begin, end, lanes);
}

}  // namespace

namespace LABELPENET_ISA {
extern const ExcitationLoops kExcitationLoops;
const ExcitationLoops kExcitationLoops = {start, ratio, sum};
}  // namespace LABELPENET_ISA
}  // namespace labelpenet
