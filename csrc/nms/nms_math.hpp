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

LABELPENET_HD float intersection(const Box& a, const Box& b) {
  const float x1 = a.x1 > b.x1 ? a.x1 : b.x1;
  const float y1 = a.y1 > b.y1 ? a.y1 : b.y1;
  const float x2 = a.x2 < b.x2 ? a.x2 : b.x2;
  const float y2 = a.y2 < b.y2 ? a.y2 : b.y2;
  const float width = x2 - x1 > 0 ? x2 - x1 : 0;
  const float height = y2 - y1 > 0 ? y2 - y1 : 0;
  return width * height;
}

// Intersection over union; NaN, which is above nothing, where both areas are 0.
LABELPENET_HD float box_iou(const Box& a, const Box& b) {
  const float both = intersection(a, b);
  return both / (box_area(a) + box_area(b) - both);
}

// The largest float that is not above x: a float is above x exactly where it is above this one.
inline float round_down(double x) {
  const float near = static_cast<float>(x);
  return static_cast<double>(near) > x ? std::nextafterf(near, -HUGE_VALF) : near;
}

// A threshold and two that settle most pairs without a division: the quotient below is within 1e-6
// of the true one, these are 1e-5 away. C++ rounds the same on host and device.
struct IouThreshold {
  float exact;  // round_down() of the threshold
  float surely_not;
  float surely;
};

inline IouThreshold iou_threshold(double x) {
  const float exact = round_down(x);
  // below 1e-30 a quotient may be subnormal, and less exact: nothing is sure then
  return {exact, exact * (1 - 1e-5f), exact > 1e-30f ? exact * (1 + 1e-5f) : HUGE_VALF};
}

// box_iou(a, b) > threshold.exact, the same for every input.
LABELPENET_HD bool overlaps(const Box& a, float area_a, const Box& b, float area_b,
                            const IouThreshold& threshold) {
  const float both = intersection(a, b);
  if (both == 0) return false;  // 0 / x or 0 / 0
  const float either = area_a + area_b - both;
  if (both < threshold.surely_not * either) return false;
  if (either > 0 && both > threshold.surely * either) return true;
  return both / either > threshold.exact;
}

}  // namespace labelpenet
