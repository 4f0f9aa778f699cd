// One axis of a box: which pixels it holds, and where they sample its map. C++17.
// Everything is `static`: each file of loops keeps its own copy, compiled for its instruction set.
#pragma once
#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"

namespace labelpenet {

struct Axis {
  int begin, end;  // pixels inside the box and the image; empty where end <= begin
  float low;       // the box's lower edge
  float scale;     // cells per pixel
};

// Where a pixel samples a row of cells: value = lerp(cell, next, fraction).
struct Sample {
  int cell, next;
  float fraction;
};

// The first pixel in [0, size] whose centre is at `edge` or beyond. Exact in float: subtracting
// 0.5 rounds only where that does not change the ceiling, as long as size <= 2^22.
static LABELPENET_HD int first_pixel(float edge, int size) {
  const float pixel = ceilf(edge - 0.5f);
  if (!(pixel > 0.f)) return 0;  // NaN, too
  return pixel >= static_cast<float>(size) ? size : static_cast<int>(pixel);
}

static LABELPENET_HD Axis axis_of(float low, float high, int cells, int size) {
  // halves, because high - low may leave the range of float
  const float scale = 0.5f * static_cast<float>(cells) / (0.5f * high - 0.5f * low);
  return {first_pixel(low, size), first_pixel(high, size), low, scale};
}

// u = (p + 0.5 - low) / (high - low) * cells - 0.5, held at the outer cells' centres.
// p + 0.5 and low are exact in float, so u is as good as the one rounded difference.
static LABELPENET_HD Sample sample(const Axis& axis, int pixel, int cells) {
  const float last = static_cast<float>(cells - 1);
  float u = (static_cast<float>(pixel) + 0.5f - axis.low) * axis.scale - 0.5f;
  u = u > 0.f ? u : 0.f;
  u = u < last ? u : last;
  const int cell = static_cast<int>(u);
  return {cell, cell + 1 < cells ? cell + 1 : cell, u - static_cast<float>(cell)};
}

static LABELPENET_HD float lerp(float a, float b, float fraction) { return a + fraction * (b - a); }

// The first of the axis's pixels whose u is at least `u`.
static LABELPENET_HD double pixel_at(const Axis& axis, double u) {
  const double pixel = ceil((u + 0.5) / axis.scale + axis.low - 0.5);
  return pixel < axis.begin ? axis.begin : pixel > axis.end ? axis.end : pixel;
}

// The sum of u over the pixels [begin, end), an arithmetic series.
static LABELPENET_HD double sum_of_u(const Axis& axis, double begin, double end) {
  return (end - begin) * ((0.5 * (begin + end) - axis.low) * axis.scale - 0.5);
}

constexpr double kUnseen = 1e-5;

// The weight of cell j in all pixels of the axis together, in closed form: it rises from 0 to 1 as
// u goes from j - 1 to j and falls to 0 at j + 1; outer cells stay at 1 beyond their centres. A
// pixel on a cell's centre leaves its neighbours what float32 rounds off, which is not seeing them.
static LABELPENET_HD double cell_weight(const Axis& axis, int j, int cells) {
  if (axis.end <= axis.begin) return 0.;
  const double low = j == 0 ? axis.begin : pixel_at(axis, j - 1.0);
  const double middle = pixel_at(axis, j);
  const double high = j == cells - 1 ? axis.end : pixel_at(axis, j + 1.0);
  const double up =
      j == 0 ? middle - low : sum_of_u(axis, low, middle) - (j - 1.0) * (middle - low);
  const double down =
      j == cells - 1 ? high - middle : (j + 1.0) * (high - middle) - sum_of_u(axis, middle, high);
  return up + down > kUnseen ? up + down : 0.;
}

// ---- scores in fixed point ---------------------------------------------------------------------
constexpr float kLargestScore = 73786976294838206464.f;  // 2^66

// The magnitude of a score for the largest one; infinite where it is out of range.
static LABELPENET_HD float score_magnitude(float score) {
  const float magnitude = fabsf(score);
  return magnitude <= kLargestScore ? magnitude : HUGE_VALF;  // NaN, too
}

// The power of two in which no sum of `count` scores up to `largest` leaves 2^61 units.
static LABELPENET_HD double score_unit(float largest, int64_t count) {
  if (!(largest <= kLargestScore)) return static_cast<double>(NAN);
  int exponent = 0;
  (void)frexp(static_cast<double>(count) * static_cast<double>(largest), &exponent);
  return ldexp(1., exponent - 61);
}

// A power of two scales a double without rounding.
static LABELPENET_HD int64_t in_units(float score, double unit) {
  return unit > 0. ? static_cast<int64_t>(llrint(static_cast<double>(score) / unit)) : 0;
}

// What the samples of a map have to be multiplied with to sum to the map's sum; 0 where no sample
// differs from 0. `weight_y` [h] and `weight_x` [w] are cell_weight() of the box's two axes.
static LABELPENET_HD double mass_factor(const float* map, const double* weight_y,
                                        const double* weight_x, int cells_y, int cells_x) {
  double mass = 0., sampled = 0.;
  for (int y = 0; y < cells_y; ++y)
    for (int x = 0; x < cells_x; ++x, ++map) {
      mass += *map;
      sampled += weight_y[y] * weight_x[x] * *map;
    }
  return sampled > 0. ? mass / sampled : 0.;
}

// A cell that no pixel sees becomes 0: the factor, which owes nothing to it, may be without bounds.
static LABELPENET_HD float scale_cell(float value, double weight_y, double weight_x,
                                      double factor) {
  return weight_y > 0. && weight_x > 0. ? static_cast<float>(value * factor) : 0.f;
}

}  // namespace labelpenet
