// The permutohedral lattice for one pixel (or one vector of pixels): which d + 1 lattice points
// surround it, and with which barycentric weights.
// Source: Adams, Baek and Davis, "Fast high-dimensional filtering using the permutohedral lattice",
// Eurographics 2010, sections 3.1 to 3.3.
#pragma once
#include <cmath>
#include <cstdint>
#include <stdexcept>

#include "core/host_device.hpp"

namespace labelpenet {

// A lattice point has d + 1 integer coordinates with sum 0 and one remainder r modulo d + 1, so
// coordinate i is (d + 1) q_i + r. The first d quotients and r name it; they are packed into one
// integer key = r + sum_i (q_i - low_i) unit_i, in which a step along a lattice axis is an
// addition.
template <int D>
struct LatticeGeometry {
  float deviation[D];  // of feature i: x, y, r, g, b
  float scale[D];      // of the elevation
  int low[D];          // smallest q_i, with room for the neighbours
  uint64_t unit[D];    // place value of q_i
  uint64_t all;        // sum of the units
  int bits;            // of the largest key
};

constexpr int kRemainderBits = 3;  // r <= 5
constexpr uint64_t kRemainderMask = (1u << kRemainderBits) - 1;

// The geometry for an image of the given size. Throws std::invalid_argument where the standard
// deviations are so small that a key leaves 63 bits or float32 cannot round a coordinate.
template <int D>
LatticeGeometry<D> make_lattice_geometry(int64_t height, int64_t width, float sxy, float srgb) {
  LatticeGeometry<D> g{};
  double high[D];  // of the scaled features; their lowest value is 0
  for (int i = 0; i < D; ++i) {
    g.deviation[i] = i < 2 ? sxy : srgb;
    // equalises the blur's variance over the axes (section 3.1: inverse deviation (d + 1)
    // sqrt(2/3))
    const double scale = (D + 1) * std::sqrt(2.0 / 3.0 / ((i + 1.0) * (i + 2.0)));
    g.scale[i] = static_cast<float>(scale);
    high[i] = scale / g.deviation[i] * (i == 0 ? width - 1 : i == 1 ? height - 1 : 255);
  }
  g.bits = kRemainderBits;
  for (int i = 0; i < D; ++i) {
    double top = 0;  // elevated coordinate i lies in [-i high_{i-1}, sum_{k >= i} high_k]
    for (int k = i; k < D; ++k) top += high[k];
    const double bottom = i == 0 ? 0 : -i * high[i - 1];
    // 1 for rounding, 1 for the vertex, 1 for its neighbours
    const double last = std::ceil(top / (D + 1)) + 3, first = std::floor(bottom / (D + 1)) - 3;
    if (!(last < 1 << 17 && first > -(1 << 17)))
      throw std::invalid_argument("sxy, srgb: too small for an image of this size");
    g.low[i] = static_cast<int>(first);
    g.unit[i] = uint64_t{1} << g.bits;
    g.all += g.unit[i];
    for (int64_t range = static_cast<int64_t>(last - first); range > 0; range >>= 1) ++g.bits;
    if (g.bits > 63) throw std::invalid_argument("sxy, srgb: too small for an image of this size");
  }
  return g;
}

// One pixel at a time. dense_crf_simd.cpp has the same with a vector of pixels; a comparison gives
// a mask: all bits set where it holds.
struct ScalarLanes {
  using Float = float;
  using Int = int;
  using Key = uint64_t;
  using Word = uint64_t;  // one element of Key
  static LABELPENET_HD Int less(Float a, Float b) { return -static_cast<int>(a < b); }
  static LABELPENET_HD Int less(Int a, Int b) { return -static_cast<int>(a < b); }
  static LABELPENET_HD Int equal(Int a, Int b) { return -static_cast<int>(a == b); }
  static LABELPENET_HD Float where(Int mask, Float a) { return mask ? a : 0.0f; }
  static LABELPENET_HD Key where_key(Int mask, Key a) { return mask ? a : 0; }
  static LABELPENET_HD Int to_int(Float a) { return static_cast<int>(a); }
  static LABELPENET_HD Float to_float(Int a) { return static_cast<float>(a); }
  static LABELPENET_HD Key to_key(Int a) { return static_cast<Key>(a); }
};

// The d + 1 vertices around a point: key[r] is the one with remainder r, weight[r] its weight.
template <int D, class Lanes>
LABELPENET_HD void embed(const LatticeGeometry<D>& g, const typename Lanes::Float (&raw)[D],
                         typename Lanes::Key (&key)[D + 1],
                         typename Lanes::Float (&weight)[D + 1]) {
  using Float = typename Lanes::Float;
  using Int = typename Lanes::Int;
  using Key = typename Lanes::Key;
  const float period = D + 1, inverse = 1.0f / (D + 1);
  const float round = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds |x| < 2^22

  Float above[D + 1];  // the elevated point, then its height above the nearest remainder-0 point
  Float sum = Float{};
  for (int i = D; i > 0; --i) {
    const Float scaled = raw[i - 1] / g.deviation[i - 1] * g.scale[i - 1];
    above[i] = sum - static_cast<float>(i) * scaled;
    sum = sum + scaled;
  }
  above[0] = sum;

  Int quotient[D + 1], rank[D + 1];
  Float excess = Float{};  // sum of the rounded quotients: how far the rounding left the plane
  for (int i = 0; i <= D; ++i) {
    const Float nearest = (above[i] * inverse + round) - round;
    above[i] = above[i] - nearest * period;
    quotient[i] = Lanes::to_int(nearest);
    excess = excess + nearest;
  }
  for (int i = 0; i <= D; ++i) rank[i] = Lanes::to_int(excess);
  for (int i = 0; i < D; ++i) {
    for (int j = i + 1; j <= D; ++j) {
      const Int less = Lanes::less(above[i], above[j]);
      rank[i] = rank[i] - less;
      rank[j] = rank[j] + less + 1;
    }
  }
  for (int i = 0; i <= D; ++i) {  // back into the plane: move those that were rounded the furthest
    const Int wrap = Lanes::less(Int{} + D, rank[i]) - Lanes::less(rank[i], Int{});
    rank[i] = rank[i] + wrap * (D + 1);
    quotient[i] = quotient[i] + wrap;
    above[i] = above[i] - Lanes::to_float(wrap) * period;
  }

  Float sorted[D + 1];  // by rank: the largest height first
  Key first = Key{};
  for (int i = 0; i < D; ++i)
    first = first +
            Lanes::to_key(quotient[i] - g.low[i]) * static_cast<typename Lanes::Word>(g.unit[i]);
  key[0] = first;
  for (int s = D; s >= 0; --s) {
    Float height = Float{};
    Key step = Key{} + 1;
    for (int i = 0; i <= D; ++i) {
      const Int here = Lanes::equal(rank[i], Int{} + s);
      height = height + Lanes::where(here, above[i]);
      if (i < D) step = step - Lanes::where_key(here, static_cast<typename Lanes::Word>(g.unit[i]));
    }
    sorted[s] = height;
    if (s > 0) key[D - s + 1] = key[D - s] + step;
  }
  weight[0] = 1.0f + (sorted[D] - sorted[0]) * inverse;
  for (int r = 1; r <= D; ++r) weight[r] = (sorted[D - r] - sorted[D + 1 - r]) * inverse;
}

// The next vertex along lattice axis j (0 to D): +1 on every coordinate but j, which loses D.
template <int D, class Key>
LABELPENET_HD Key next_vertex(const LatticeGeometry<D>& g, Key key, int axis) {
  const Key unit = axis < D ? static_cast<Key>(g.unit[axis]) : 0;
  const Key step = (key & kRemainderMask) < D ? Key{1} : static_cast<Key>(g.all - D);
  return key + step - unit;
}

template <int D, class Key>
LABELPENET_HD Key previous_vertex(const LatticeGeometry<D>& g, Key key, int axis) {
  const Key unit = axis < D ? static_cast<Key>(g.unit[axis]) : 0;
  const Key step = (key & kRemainderMask) > 0 ? Key{1} : static_cast<Key>(g.all - D);
  return key - step + unit;
}

// An upper bound for the vertices of an image's lattice: those that pixels touch lie within the
// longest edge of a simplex of the box of the features, and their Voronoi cells (A_d*, covering
// radius sqrt(d (d + 2) / (12 (d + 1))) times d + 1) do not overlap.
template <int D>
int64_t max_vertices(int64_t height, int64_t width, float sxy, float srgb) {
  const double stretch = (D + 1) * std::sqrt(2.0 / 3.0);  // of a feature, in lattice units
  const int half = (D + 1) / 2;
  const double edge = std::sqrt(static_cast<double>(half * (D + 1 - half) * (D + 1)));
  const double covering = std::sqrt(D * (D + 2.0) / 12.0 * (D + 1));
  const double margin = 2 * (edge + covering) / stretch + 0.2;      // 0.2: float32 coordinates
  double volume = std::pow(stretch, D) / std::pow(D + 1, D - 0.5);  // vertices per unit volume
  for (int i = 0; i < D; ++i)
    volume *= margin + (i == 0 ? (width - 1) / sxy : i == 1 ? (height - 1) / sxy : 255 / srgb);
  const double touched = static_cast<double>(height) * width * (D + 1);
  return static_cast<int64_t>(volume < touched ? volume + 1 : touched);
}

// What slicing multiplies by, so that the lattice filter approximates exp(-|f_i - f_j|^2 / 2).
template <int D>
constexpr float slice_scale() {
  return 1.0f / (1.0f + 1.0f / (1 << D));
}

}  // namespace labelpenet
