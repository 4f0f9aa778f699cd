// Fixed point, and places kept inside the image. C++17.
// Everything is `static`: each file of loops keeps its own copy, compiled for its instruction set.
#pragma once
#include <cstdint>

#include "core/host_device.hpp"

namespace labelpenet {

constexpr double kRegionUnit = 4294967296.;  // 2^32 of them are 1; 2^28 pixels stay below 2^61

// Half away from zero; a number that is not one in [-1, 1] counts as 0.
static LABELPENET_HD int64_t to_fixed(float value) {
  const double scaled = static_cast<double>(value) * kRegionUnit;
  const bool usable = value >= -1.f && value <= 1.f;
  return usable ? static_cast<int64_t>(scaled + (scaled < 0. ? -0.5 : 0.5)) : 0;
}

static LABELPENET_HD float from_fixed(int64_t sum) {
  return static_cast<float>(static_cast<double>(sum) * (1. / kRegionUnit));
}

static LABELPENET_HD int64_t inside(int64_t place, int64_t pixels) {
  return place < 0 ? 0 : place < pixels ? place : pixels;
}

}  // namespace labelpenet
