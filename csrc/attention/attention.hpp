// From proposals to image maps: small maps drawn into their boxes, and boxes added up.
//
// A pixel (px, py) belongs to a box where its centre does: x1 <= px + 0.5 < x2, likewise y. Boxes
// are (x1, y1, x2, y2) in pixels. All arrays are row-major and contiguous. The CPU loops take
// checked numbers; the CUDA kernels leave out a box that is not finite or whose index is out of
// range.
#pragma once
#include <cstdint>

namespace labelpenet {

// out[index[i]] += map i, sampled bilinearly at the pixels of box i, in the order of i.
struct ProjectAttention {
  const float* maps;     // [R, h, w], h and w >= 1
  const float* boxes;    // [R, 4]
  const int64_t* index;  // [R], in [0, num_maps)
  float* scaled;         // [R, h, w] scratch, or null: add the samples as they are; else scaled so
                         // that what a box adds to the image sums to the sum of its map
  double* weights;       // [R, h + w] scratch where `scaled` is not null
  float* out;            // [num_maps, height, width], written
  int64_t proposals;
  int cells_y, cells_x;  // h, w
  int64_t num_maps;
  int height, width;
};

// out[index[i]] += scores[i] at the pixels of box i. Scores become fixed-point numbers first, so
// that sums are exact in any order.
struct AccumulateBoxes {
  const float* scores;   // [R], magnitudes up to kLargestScore
  const float* boxes;    // [R, 4]
  const int64_t* index;  // [R], in [0, num_maps)
  int64_t* fixed;        // [R] scratch: scores in units; no sum of any of them leaves int64
  double* unit;          // [1] scratch: a power of two; NaN where a score is out of range
  float* out;            // [num_maps, height, width], written; all NaN where `unit` is
  int64_t proposals, num_maps;
  int height, width;
};

void project_attention_cpu(const ProjectAttention& args, int threads);
void accumulate_boxes_cpu(const AccumulateBoxes& args, int threads);
void project_attention_cuda(const ProjectAttention& args, void* stream);
void accumulate_boxes_cuda(const AccumulateBoxes& args, void* stream);

}  // namespace labelpenet
