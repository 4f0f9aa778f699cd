// Non-maximum suppression, over all boxes or within each label.
#pragma once
#include <cstdint>

namespace labelpenet {

struct NmsArgs {
  const float* boxes = nullptr;     // [count, 4] x1, y1, x2, y2
  const float* scores = nullptr;    // [count]; CPU only, a device takes `order`
  const int64_t* order = nullptr;   // CUDA only: [count] boxes by falling score, ties by index
  const int64_t* labels = nullptr;  // [count]; null = one label
  int64_t* keep = nullptr;          // [count] kept boxes by falling score; [0, status[0]) written
  // [count] the best kept box that suppressed each box, itself where kept; written; null = unwanted
  int64_t* owner = nullptr;
  // [2] boxes kept; not 0 where a box is not finite or a score is NaN (then nothing else is valid)
  int64_t* status = nullptr;
  uint64_t* mask = nullptr;  // CUDA only: [count, (count + 63) / 64] scratch
  int64_t count = 0;
  double iou_threshold = 0;  // a box goes where its IoU with a better kept one is above
};

void nms_cpu(const NmsArgs& args, int threads);
void nms_cuda(const NmsArgs& args, void* stream);

}  // namespace labelpenet
