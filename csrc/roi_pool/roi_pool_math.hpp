// Which cells a bin covers: the rounding of Caffe's ROIPooling layer (Girshick, Fast R-CNN, 2015),
// kept to the last bit by every implementation since. C++17: shared with the CUDA kernels.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"

namespace labelpenet {

// What a bin starts from. Cells that are not above it (NaN, -inf) never win, as in torchvision.
constexpr float kLowest = -FLT_MAX;

// Cells [begin, end) along one axis.
struct Span {
  int32_t begin;
  int32_t end;
};

// A box along one axis, on the grid of cells.
template <class T>
struct RoiAxis {
  int64_t start;  // first cell, possibly outside the image
  T bin;          // cells a bin
};

// roundf and round go half away from zero on the host and on the device alike.
LABELPENET_HD float round_away(float x) { return roundf(x); }
LABELPENET_HD double round_away(double x) { return round(x); }

// Nearest cell. Boxes beyond 2^30 cells are cut there (and NaN is): the conversion would overflow,
// and no image is that large.
template <class T>
LABELPENET_HD int64_t nearest_cell(T pixel, T scale) {
  const T limit = T(1 << 30);
  const T cell = round_away(pixel * scale);
  return static_cast<int64_t>(!(cell > -limit) ? -limit : cell > limit ? limit : cell);
}

template <class T>
LABELPENET_HD RoiAxis<T> roi_axis(T low, T high, T scale, int bins) {
  const int64_t start = nearest_cell(low, scale);
  const int64_t extent = nearest_cell(high, scale) - start + 1;
  return {start, static_cast<T>(extent > 1 ? extent : 1) / static_cast<T>(bins)};
}

// The cells of bin `i`, cut to an image of `size` cells; empty (end <= begin) outside it.
template <class T>
LABELPENET_HD Span bin_span(const RoiAxis<T>& axis, int i, int64_t size) {
  const int64_t begin = axis.start + static_cast<int64_t>(floor(static_cast<T>(i) * axis.bin));
  const int64_t end = axis.start + static_cast<int64_t>(ceil(static_cast<T>(i + 1) * axis.bin));
  const auto cut = [size](int64_t v) {
    return static_cast<int32_t>(v < 0 ? 0 : v > size ? size : v);
  };
  return {cut(begin), cut(end)};
}

// Whether (image index, x1, y1, x2, y2) says where to pool; x - x is 0 for finite x, else NaN.
template <class T>
LABELPENET_HD bool valid_box(const T* box, int64_t images) {
  bool valid = box[0] >= 0 && box[0] < static_cast<T>(images) && box[0] == floor(box[0]);
  for (int i = 1; i < 5; ++i) valid = valid && box[i] - box[i] == 0;
  return valid;
}

}  // namespace labelpenet
