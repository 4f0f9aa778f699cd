#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed only inside this file
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "dense_crf/lattice_loops.hpp"

namespace labelpenet::LABELPENET_ISA {
namespace {

// GCC vectors: 16 pixels where lanes are pixels, 8 channels where lanes are channels. The compiler
// splits them where the registers are shorter.
typedef float Float16 __attribute__((vector_size(64)));
typedef int Int16 __attribute__((vector_size(64)));
typedef uint32_t Word16 __attribute__((vector_size(64)));
typedef uint64_t Wide16 __attribute__((vector_size(128)));
typedef int64_t WideMask16 __attribute__((vector_size(128)));
typedef float Float8 __attribute__((vector_size(32)));
typedef int Int8 __attribute__((vector_size(32)));

template <class Vector, class T>
inline Vector load(const T* p) {
  Vector v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class Vector, class T>
inline void store(T* p, const Vector& v) {
  __builtin_memcpy(p, &v, sizeof v);
}

struct VectorLanes {
  using Float = Float16;
  using Int = Int16;
  static Int less(const Float& a, const Float& b) { return a < b; }
  static Int less(const Int& a, const Int& b) { return a < b; }
  static Int equal(const Int& a, const Int& b) { return a == b; }
  static Float where(const Int& mask, const Float& a) { return (Float)(mask & (Int)a); }
  static Int to_int(const Float& a) { return __builtin_convertvector(a, Int); }
  static Float to_float(const Int& a) { return __builtin_convertvector(a, Float); }
};
struct NarrowLanes : VectorLanes {
  using Key = Word16;
  using Word = uint32_t;
  static Key where_key(const Int& mask, Word a) { return (Key)mask & a; }
  static Key to_key(const Int& a) { return (Key)a; }
};
struct WideLanes : VectorLanes {
  using Key = Wide16;
  using Word = uint64_t;
  static Key where_key(const Int& mask, Word a) {
    return (Key) __builtin_convertvector(mask, WideMask16) & a;
  }
  static Key to_key(const Int& a) { return (Key) __builtin_convertvector(a, WideMask16); }
};

template <int D, class Lanes>
void embed_blocks(const LatticeGeometry<D>& g, const uint8_t* image, int64_t width, int64_t pixels,
                  int64_t begin, int64_t end, typename Lanes::Word* keys, float* weights) {
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * kLanes;
    int64_t y = first / width, x = first - y * width;
    float features[D][kLanes];
    int inside[kLanes];
    // lanes behind the last pixel repeat it: they must not bring vertices of their own
    int64_t pixel = first;
    for (int lane = 0; lane < kLanes; ++lane) {
      inside[lane] = -(first + lane < pixels);
      features[0][lane] = static_cast<float>(x);
      features[1][lane] = static_cast<float>(y);
      for (int c = 2; c < D; ++c) features[c][lane] = image[3 * pixel + c - 2];
      if (pixel + 1 == pixels) continue;
      ++pixel;
      if (++x == width) x = 0, ++y;
    }
    Float16 raw[D], weight[D + 1];
    typename Lanes::Key key[D + 1];
    for (int i = 0; i < D; ++i) raw[i] = load<Float16>(features[i]);
    embed<D, Lanes>(g, raw, key, weight);
    for (int r = 0; r <= D; ++r) {
      store(keys + ((block - begin) * (D + 1) + r) * kLanes, key[r]);
      store(weights + (block * (D + 1) + r) * kLanes,
            VectorLanes::where(load<Int16>(inside), weight[r]));
    }
  }
}

inline Float16 gather(const float* p, const int* index) {
#if defined(__AVX512F__)
  // the masked form: GCC warns about the undefined source of the plain one
  return (Float16)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xFFFF, _mm512_loadu_si512(index),
                                           p, 4);
#else
  Float16 v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = p[index[lane]];
  return v;
#endif
}

inline float sum_lanes(const Float16& v) {
  // halves onto each other, so that every instruction set adds in the same order
  float f[kLanes];
  store(f, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) f[i] += f[i + width];
  return f[0];
}

// ---- splat -------------------------------------------------------------------------------------
void splat_scalar(const LatticeView& l, const float* rows, float* values, int begin, int end) {
  for (int v = begin; v < end; ++v) {
    int e = l.start[v];
    const int last = l.start[v + 1];
    Float16 sum = {};
    for (; e + kLanes <= last; e += kLanes)
      sum += load<Float16>(l.entry_splat + e) * gather(rows, l.entry_pixel + e);
    float total = sum_lanes(sum);
    for (; e < last; ++e) total += l.entry_splat[e] * rows[l.entry_pixel[e]];
    values[v] = total;
  }
}

// V vectors of 8 channels, held in registers over the entries of a vertex.
template <int V>
void splat_rows(const LatticeView& l, const float* rows, float* values, int channels, int begin,
                int end) {
  for (int v = begin; v < end; ++v) {
    Float8 sum[V] = {};
    for (int e = l.start[v]; e < l.start[v + 1]; ++e) {
      const float* row = rows + static_cast<int64_t>(l.entry_pixel[e]) * channels;
      const float weight = l.entry_splat[e];
      for (int i = 0; i < V; ++i) sum[i] += weight * load<Float8>(row + 8 * i);
    }
    float* out = values + static_cast<int64_t>(v) * channels;
    for (int i = 0; i < V; ++i) store(out + 8 * i, sum[i]);
  }
}

// ---- blur --------------------------------------------------------------------------------------
void blur_scalar(const int* next, const int* previous, const float* in, float* out, int begin,
                 int end) {
  int v = begin;
  for (; v + kLanes <= end; v += kLanes)
    store(out + v,
          load<Float16>(in + v) + 0.5f * (gather(in, next + v) + gather(in, previous + v)));
  for (; v < end; ++v) out[v] = in[v] + 0.5f * (in[next[v]] + in[previous[v]]);
}

void blur(const LatticeView& l, int axis, const float* in, float* out, int channels, int begin,
          int end) {
  const int* next = l.neighbour + static_cast<int64_t>(2 * axis) * l.vertices;
  const int* previous = next + l.vertices;
  if (channels == 1) return blur_scalar(next, previous, in, out, begin, end);
  for (int v = begin; v < end; ++v) {
    const float* here = in + static_cast<int64_t>(v) * channels;
    const float* a = in + static_cast<int64_t>(next[v]) * channels;
    const float* b = in + static_cast<int64_t>(previous[v]) * channels;
    float* to = out + static_cast<int64_t>(v) * channels;
    for (int c = 0; c < channels; c += 8)
      store(to + c, load<Float8>(here + c) + 0.5f * (load<Float8>(a + c) + load<Float8>(b + c)));
  }
}

// ---- slice -------------------------------------------------------------------------------------
void slice_scalar(const LatticeView* lattices, const float* const* values, int count,
                  const float* base, float* rows, int64_t begin, int64_t end) {
  for (int64_t block = begin; block < end; ++block) {
    Float16 sum = base ? load<Float16>(base + block * kLanes) : Float16{};
    for (int k = 0; k < count; ++k) {
      const int corners = lattices[k].dims + 1;
      const int64_t at = block * corners * kLanes;
      for (int r = 0; r < corners; ++r)
        sum += load<Float16>(lattices[k].slice + at + r * kLanes) *
               gather(values[k], lattices[k].corner + at + r * kLanes);
    }
    store(rows + block * kLanes, sum);
  }
}

template <int V>
void slice_rows(const LatticeView* lattices, const float* const* values, int count,
                const float* base, float* rows, int channels, int64_t begin, int64_t end) {
  for (int64_t pixel = begin * kLanes; pixel < end * kLanes; ++pixel) {
    Float8 sum[V] = {};
    if (base)
      for (int i = 0; i < V; ++i) sum[i] = load<Float8>(base + pixel * channels + 8 * i);
    for (int k = 0; k < count; ++k) {
      const int corners = lattices[k].dims + 1;
      const int64_t at = pixel / kLanes * corners * kLanes + pixel % kLanes;
      for (int r = 0; r < corners; ++r) {
        const float weight = lattices[k].slice[at + r * kLanes];
        const float* value =
            values[k] + static_cast<int64_t>(lattices[k].corner[at + r * kLanes]) * channels;
        for (int i = 0; i < V; ++i) sum[i] += weight * load<Float8>(value + 8 * i);
      }
    }
    for (int i = 0; i < V; ++i) store(rows + pixel * channels + 8 * i, sum[i]);
  }
}

// Calls step<V>(first channel) for runs of V <= 4 vectors of 8 channels: what registers hold.
template <class Step>
inline void in_runs(int channels, const Step& step) {
  int c = 0;
  for (; c + 32 <= channels; c += 32) step.template run<4>(c);
  if (channels - c == 24) step.template run<3>(c);
  if (channels - c == 16) step.template run<2>(c);
  if (channels - c == 8) step.template run<1>(c);
}

struct Splat {
  const LatticeView& l;
  const float* rows;
  float* values;
  int channels, begin, end;
  template <int V>
  void run(int c) const {
    splat_rows<V>(l, rows + c, values + c, channels, begin, end);
  }
};

void splat(const LatticeView& l, const float* rows, float* values, int channels, int begin,
           int end) {
  if (channels == 1) return splat_scalar(l, rows, values, begin, end);
  in_runs(channels, Splat{l, rows, values, channels, begin, end});
}

struct Slice {
  const LatticeView* lattices;
  const float* const* values;
  int count;
  const float* base;
  float* rows;
  int channels;
  int64_t begin, end;
  template <int V>
  void run(int c) const {
    const float* shifted[kMaxLattices];
    for (int k = 0; k < count; ++k) shifted[k] = values[k] + c;
    slice_rows<V>(lattices, shifted, count, base ? base + c : nullptr, rows + c, channels, begin,
                  end);
  }
};

void slice(const LatticeView* lattices, const float* const* values, int count, const float* base,
           float* rows, int channels, int64_t begin, int64_t end) {
  if (channels == 1) return slice_scalar(lattices, values, count, base, rows, begin, end);
  in_runs(channels, Slice{lattices, values, count, base, rows, channels, begin, end});
}

// ---- probabilities -----------------------------------------------------------------------------
// exp(x) to about 1e-7 relative: 2^n times a polynomial on |f| <= ln(2) / 2 (Taylor to degree 6,
// remainder 1.2e-7). 0 below -60 (8.8e-27), so that no later product with a weight is subnormal,
// which some processors compute slowly; never above exp(60).
template <class Float, class Int>
inline Float exponential(const Float& any) {
  const Float low = Float{} - 60.0f, high = Float{} + 60.0f;
  const Float round = Float{} + 12582912.0f;
  Float x = any < low ? low : any;
  x = x > high ? high : x;
  const Float n = (x * 1.44269504f + round) - round;
  const Float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  Float p = f * (1.0f / 720) + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  const Int power = (__builtin_convertvector(n, Int) + 127) << 23;
  return any < low ? Float{} : p * (Float)power;
}

void sigmoid(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Float16 odds = exponential<Float16, Int16>(load<Float16>(x + i));
    store(x + i, odds / (1.0f + odds));
  }
}

inline float reduce_max(const Float8& v) {
  float best = v[0];
  for (int i = 1; i < 8; ++i) best = best < v[i] ? v[i] : best;
  return best;
}

inline float reduce_add(const Float8& v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

void softmax(float* x, int64_t rows, int channels) {
  for (float* row = x; row < x + rows * channels; row += channels) {
    Float8 top = load<Float8>(row);
    for (int c = 8; c < channels; c += 8) {
      const Float8 v = load<Float8>(row + c);
      top = top < v ? v : top;
    }
    const float most = reduce_max(top);
    Float8 sum = {};
    for (int c = 0; c < channels; c += 8) {
      const Float8 e = exponential<Float8, Int8>(load<Float8>(row + c) - most);
      sum += e;
      store(row + c, e);
    }
    const float inverse = 1.0f / reduce_add(sum);
    for (int c = 0; c < channels; c += 8) store(row + c, load<Float8>(row + c) * inverse);
  }
}

}  // namespace

extern const CrfLoops kCrfLoops;
const CrfLoops kCrfLoops = {embed_blocks<2, NarrowLanes>,
                            embed_blocks<5, NarrowLanes>,
                            embed_blocks<2, WideLanes>,
                            embed_blocks<5, WideLanes>,
                            splat,
                            blur,
                            slice,
                            sigmoid,
                            softmax};

}  // namespace labelpenet::LABELPENET_ISA
