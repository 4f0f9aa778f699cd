// Non-maximum suppression, over all boxes or within each label.
#pragma once
#include <cstdint>

namespace labelpenet {

struct NmsArgs {
  const float* boxes = nullptr;     // [count, 4] x1, y1, x2, y2
  const float* scores = nullptr;    // [count]
  const int64_t* labels = nullptr;  // CPU only: [count]; null = one label
  // CUDA only: [count] boxes by label, then by falling score, ties by index; and their labels in
  // that order, null = one label
  const int64_t* order = nullptr;
  const int64_t* rank_labels = nullptr;
  const int64_t* by_score = nullptr;  // CUDA only: [count] boxes by falling score alone
  // [count] kept boxes by falling score; [0, status[0]) written; null, on CUDA only, = unwanted
  int64_t* keep = nullptr;
  // [count] the best kept box that suppressed each box, itself where kept; written; null, on the
  // CPU only, = unwanted
  int64_t* owner = nullptr;
  // [2] boxes kept; not 0 where a box is not finite or a score is NaN: the CPU writes nothing else
  // then, on CUDA such a box neither suppresses nor is suppressed
  int64_t* status = nullptr;
  uint64_t* mask = nullptr;  // CUDA only: [count, (count + 63) / 64] scratch
  int32_t* best = nullptr;   // CUDA only: [count] scratch
  int64_t count = 0;
  double iou_threshold = 0;  // a box goes where its IoU with a better kept one is above
};

void nms_cpu(const NmsArgs& args, int threads);
void nms_cuda(const NmsArgs& args, void* stream);

}  // namespace labelpenet
