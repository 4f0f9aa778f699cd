// Max pooling of the features under each box to a grid of bins (Caffe rounding), and its gradient.
#pragma once
#include <cstdint>

#include "core/tensor_view.hpp"

namespace labelpenet {

struct RoiPoolArgs {
  DType dtype = DType::kFloat32;   // of features and pooled
  const void* features = nullptr;  // [images, channels, height, width]
  // [rois, 5] (image index, x1, y1, x2, y2) in image pixels; float, or double with double features.
  // The CPU takes checked boxes; CUDA pools to NaN, argmax -1, where the index or a corner is bad.
  const void* boxes = nullptr;
  void* pooled = nullptr;  // [rois, channels, pooled_height, pooled_width]; written
  // Shape of pooled: cell y * width + x of each maximum, -1 where the bin is empty or holds nothing
  // above the lowest float. Written; null = not wanted.
  int32_t* argmax = nullptr;
  // CUDA only: [images, height * width, channels] of dtype, scratch for the features, cells first
  void* cells_first = nullptr;
  int64_t images = 0;
  int64_t channels = 0;
  int64_t height = 0;  // cells
  int64_t width = 0;   // cells
  int64_t rois = 0;
  int pooled_height = 1;
  int pooled_width = 1;
  double spatial_scale = 1;  // cells per pixel
};

struct RoiPoolBackwardArgs {
  DType dtype = DType::kFloat32;      // of grad_pooled
  const void* grad_pooled = nullptr;  // [rois, channels, bins]
  const int32_t* argmax = nullptr;    // [rois, channels, bins] as the forward pass wrote it
  const int32_t* image_of = nullptr;  // [rois] image index
  void* grad_features = nullptr;      // [images, channels, cells] float or double; written
  int64_t images = 0;
  int64_t channels = 0;
  int64_t cells = 0;  // height * width
  int64_t rois = 0;
  int64_t bins = 1;  // pooled_height * pooled_width
};

void roi_pool_cpu(const RoiPoolArgs& args, int threads);
void roi_pool_cuda(const RoiPoolArgs& args, void* stream);
void roi_pool_backward_cpu(const RoiPoolBackwardArgs& args, int threads);
void roi_pool_backward_cuda(const RoiPoolBackwardArgs& args, void* stream);

}  // namespace labelpenet
