// The elementwise parts of Excitation Backprop through fully connected layers, fused; the two
// matrix products of a layer are the caller's (Zhang et al., ECCV 2016).
//
// For one layer with input x, weights W and W+ = max(W, 0), the probability that arrives at the
// output, p_out, is handed to the input as
//   p_in = x * gain,   gain = W+^T (p_out / (W+ x)),   a share of 0 where W+ x is 0.
// All arrays are row-major and contiguous; T is float, or bfloat16 where `bfloat16` is set.
#pragma once
#include <cstdint>

namespace labelpenet {

// The classifier, which one class per proposal leaves: a row instead of a matrix.
struct ExcitationStart {
  const void* x;           // [R, D] T, the classifier's input, >= 0
  const void* weight;      // [K, D] T, its rows, both signs
  const int64_t* classes;  // [R], the row that a proposal starts from; CUDA: gain 0 where there is
                           // no such row
  const float* start;      // [R], the probability that it starts with, >= 0
  void* gain;              // [R, D] T, written
  int64_t proposals, units, num_classes;
  bool contrastive;  // subtract what the row with the opposite sign would hand down
  bool bfloat16;
};

// Between two matrix products: the probability of a unit, x * gain, over its denominator.
struct ExcitationRatio {
  const void* x;     // [N] T, the layer's output (the next one's input), >= 0
  const void* gain;  // [N] T, of the layer above
  void* z;           // [N] T, W+ x on entry; overwritten with x * gain / z, 0 where z is 0
  int64_t count;
  bool bfloat16;
};

// The end: the probability of every unit of the pooled features, summed over channels.
struct ExcitationSum {
  const void* x;     // [R, C, S] T, pooled features, >= 0; S = height * width cells
  const void* gain;  // [R, C * S] T, of the lowest layer
  float* maps;       // [R, S], written
  int64_t proposals, channels, cells;
  bool clamp;  // negative sums become 0 (contrastive form)
  bool bfloat16;
};

void excitation_start_cpu(const ExcitationStart& args, int threads);
void excitation_ratio_cpu(const ExcitationRatio& args, int threads);
void excitation_sum_cpu(const ExcitationSum& args, int threads);
void excitation_start_cuda(const ExcitationStart& args, void* stream);
void excitation_ratio_cuda(const ExcitationRatio& args, void* stream);
void excitation_sum_cuda(const ExcitationSum& args, void* stream);

}  // namespace labelpenet
