// One unit of Excitation Backprop, for the CPU loops and the CUDA kernels. C++17.
// Everything is `static`: each file of loops keeps its own copy, compiled for its instruction set.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/host_device.hpp"

namespace labelpenet {

struct BFloat16 {
  uint16_t bits;
};

static LABELPENET_HD float load(float value) { return value; }

static LABELPENET_HD float load(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  memcpy(&wide, &bits, sizeof wide);
  return wide;
}

static LABELPENET_HD void store(float value, float* to) { *to = value; }

// Round half to even, as torch does. A NaN may come out as any value: none is ever stored.
static LABELPENET_HD void store(float value, BFloat16* to) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  to->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// The largest magnitude that T and float both hold.
static LABELPENET_HD float largest(const float*) { return 3.4028235e38f; }
static LABELPENET_HD float largest(const BFloat16*) { return 3.3895314e38f; }

static LABELPENET_HD float positive(float value) { return value > 0.f ? value : 0.f; }

// A share that left the range (its denominator is almost 0) counts as one of a dead unit: nothing
// that is not finite goes on, so no NaN can come of activations that are finite.
template <class T>
static LABELPENET_HD float in_range(float share) {
  const float magnitude = share < 0.f ? -share : share;
  return magnitude <= largest(static_cast<const T*>(nullptr)) ? share : 0.f;
}

template <class T>
static LABELPENET_HD float share(float probability, float denominator) {
  return denominator > 0.f ? in_range<T>(probability / denominator) : 0.f;
}

// What a weight of the classifier's row hands down, given the shares of its two signs.
template <class T>
static LABELPENET_HD float start_gain(float weight, float share_plus, float share_minus) {
  return in_range<T>(positive(weight) * share_plus - positive(-weight) * share_minus);
}

}  // namespace labelpenet
