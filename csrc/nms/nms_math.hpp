// Overlap of two boxes, in the operations and the order of torchvision's NMS, so that the same
// boxes are kept. C++17: shared with the CUDA kernels.
#pragma once
#include <cmath>

#include "core/host_device.hpp"

namespace labelpenet {

struct Box {
  float x1, y1, x2, y2;
};

LABELPENET_HD float box_area(const Box& b) { return (b.x2 - b.x1) * (b.y2 - b.y1); }

// Intersection over union; NaN, which is above nothing, where both areas are 0.
LABELPENET_HD float box_iou(const Box& a, const Box& b) {
  const float x1 = a.x1 > b.x1 ? a.x1 : b.x1;
  const float y1 = a.y1 > b.y1 ? a.y1 : b.y1;
  const float x2 = a.x2 < b.x2 ? a.x2 : b.x2;
  const float y2 = a.y2 < b.y2 ? a.y2 : b.y2;
  const float width = x2 - x1 > 0 ? x2 - x1 : 0;
  const float height = y2 - y1 > 0 ? y2 - y1 : 0;
  const float both = width * height;
  return both / (box_area(a) + box_area(b) - both);
}

// The largest float that is not above x: a float is above x exactly where it is above this one.
inline float round_down(double x) {
  const float near = static_cast<float>(x);
  return static_cast<double>(near) > x ? std::nextafterf(near, -HUGE_VALF) : near;
}

}  // namespace labelpenet
