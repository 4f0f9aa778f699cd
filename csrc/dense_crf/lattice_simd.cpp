#include "dense_crf/vectors.hpp"

namespace labelpenet::LABELPENET_ISA {
namespace {

typedef uint64_t Wide16 __attribute__((vector_size(128)));
typedef int64_t WideMask16 __attribute__((vector_size(128)));

struct VectorLanes {
  using Float = Float16;
  using Int = Int16;
  LABELPENET_INLINE static Int less(const Float& a, const Float& b) { return a < b; }
  LABELPENET_INLINE static Int less(const Int& a, const Int& b) { return a < b; }
  LABELPENET_INLINE static Int equal(const Int& a, const Int& b) { return a == b; }
  LABELPENET_INLINE static Float where(const Int& mask, const Float& a) {
    return (Float)(mask & (Int)a);
  }
  LABELPENET_INLINE static Int to_int(const Float& a) { return __builtin_convertvector(a, Int); }
  LABELPENET_INLINE static Float to_float(const Int& a) {
    return __builtin_convertvector(a, Float);
  }
};
struct NarrowLanes : VectorLanes {
  using Key = Word16;
  using Word = uint32_t;
  LABELPENET_INLINE static Key where_key(const Int& mask, Word a) { return (Key)mask & a; }
  LABELPENET_INLINE static Key to_key(const Int& a) { return (Key)a; }
};
struct WideLanes : VectorLanes {
  using Key = Wide16;
  using Word = uint64_t;
  LABELPENET_INLINE static Key where_key(const Int& mask, Word a) {
    return (Key) __builtin_convertvector(mask, WideMask16) & a;
  }
  LABELPENET_INLINE static Key to_key(const Int& a) {
    return (Key) __builtin_convertvector(a, WideMask16);
  }
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

// p[scale * index] lane by lane.
template <int kScale = 1>
LABELPENET_INLINE Float16 gather(const float* p, const Int16& index) {
#if defined(__AVX512F__)
  // the masked form: GCC warns about the undefined source of the plain one
  return (Float16)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xFFFF, (__m512i)index, p,
                                           4 * kScale);
#else
  Float16 v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = p[int64_t{index[lane]} * kScale];
  return v;
#endif
}

template <int kScale = 1>
LABELPENET_INLINE Float16 gather(const float* p, const int* index) {
  return gather<kScale>(p, load<Int16>(index));
}

void probe(const NarrowSlot* slots, int shift, const uint32_t* keys, int64_t n, int* vertex) {
  static_assert(sizeof(NarrowSlot) == 8);
  const float* words = reinterpret_cast<const float*>(slots);  // gathered as bits
  for (int64_t i = 0; i < n; i += kLanes) {
    const Word16 key = load<Word16>(keys + i);
    const Int16 home = (Int16)((key * kNarrowHash) >> shift);
    const Int16 same = (Int16)((Word16)gather<2>(words, home) == key);
    const Int16 number = (Int16)gather<2>(words + 1, home);
    store(vertex + i, (number & same) | ~same);
  }
}

LABELPENET_INLINE float sum_lanes(const Float16& v) {
  // halves onto each other, so that every instruction set adds in the same order
  float f[kLanes];
  store(f, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) f[i] += f[i + width];
  return f[0];
}

// ---- splat -------------------------------------------------------------------------------------
// 16 entries -> their pixels and their weights.
LABELPENET_INLINE void split(const LatticeEntry* e, Int16* pixel, Float16* weight) {
#if defined(__AVX512F__)
  const __m512i a = _mm512_loadu_si512(e), b = _mm512_loadu_si512(e + 8);
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  *pixel = (Int16)_mm512_permutex2var_epi32(a, even, b);
  *weight = (Float16)_mm512_permutex2var_epi32(a, _mm512_or_si512(even, _mm512_set1_epi32(1)), b);
#else
  for (int lane = 0; lane < kLanes; ++lane) {
    (*pixel)[lane] = e[lane].pixel;
    (*weight)[lane] = e[lane].splat;
  }
#endif
}

void splat_scalar(const LatticeView& l, const float* rows, float* values, int begin, int end) {
  for (int v = begin; v < end; ++v) {
    const LatticeEntry* e = l.entries + l.start[v];
    const LatticeEntry* const last = l.entries + l.start[v + 1];
    Float16 sum = {};
    for (; e + kLanes <= last; e += kLanes) {
      Int16 pixel;
      Float16 weight;
      split(e, &pixel, &weight);
      sum += weight * gather(rows, pixel);
    }
    float total = sum_lanes(sum);
    for (; e < last; ++e) total += e->splat * rows[e->pixel];
    values[v] = total;
  }
}

// C channels, held in registers over the entries of a vertex.
template <int C>
void splat_rows(const LatticeView& l, const float* rows, float* values, int channels, int begin,
                int end) {
  for (int v = begin; v < end; ++v) {
    Channels sum[C / kChannels] = {};
    for (int i = l.start[v]; i < l.start[v + 1]; ++i) {
      const LatticeEntry e = l.entries[i];
      const float* row = rows + static_cast<int64_t>(e.pixel) * channels;
      for (int k = 0; k < C / kChannels; ++k)
        sum[k] += e.splat * load<Channels>(row + kChannels * k);
    }
    float* out = values + static_cast<int64_t>(v) * channels;
    for (int k = 0; k < C / kChannels; ++k) store(out + kChannels * k, sum[k]);
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
    for (int c = 0; c < channels; c += kChannels)
      store(to + c,
            load<Channels>(here + c) + 0.5f * (load<Channels>(a + c) + load<Channels>(b + c)));
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

template <int C>
void slice_rows(const LatticeView* lattices, const float* const* values, int count,
                const float* base, float* rows, int channels, int64_t begin, int64_t end) {
  for (int64_t pixel = begin * kLanes; pixel < end * kLanes; ++pixel) {
    Channels sum[C / kChannels] = {};
    if (base)
      for (int i = 0; i < C / kChannels; ++i)
        sum[i] = load<Channels>(base + pixel * channels + kChannels * i);
    for (int k = 0; k < count; ++k) {
      const int corners = lattices[k].dims + 1;
      const int64_t at = pixel / kLanes * corners * kLanes + pixel % kLanes;
      for (int r = 0; r < corners; ++r) {
        const float weight = lattices[k].slice[at + r * kLanes];
        const float* value =
            values[k] + static_cast<int64_t>(lattices[k].corner[at + r * kLanes]) * channels;
        for (int i = 0; i < C / kChannels; ++i)
          sum[i] += weight * load<Channels>(value + kChannels * i);
      }
    }
    for (int i = 0; i < C / kChannels; ++i) store(rows + pixel * channels + kChannels * i, sum[i]);
  }
}

// Calls step.run<C>(first channel) for runs of C <= 32 channels: what registers hold.
template <class Step>
inline void in_runs(int channels, const Step& step) {
  int c = 0;
  for (; c + 32 <= channels; c += 32) step.template run<32>(c);
  if (channels - c == 24) step.template run<24>(c);
  if (channels - c == 16) step.template run<16>(c);
  if (channels - c == 8) step.template run<8>(c);
}

struct Splat {
  const LatticeView& l;
  const float* rows;
  float* values;
  int channels, begin, end;
  template <int C>
  void run(int c) const {
    splat_rows<C>(l, rows + c, values + c, channels, begin, end);
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
  template <int C>
  void run(int c) const {
    const float* shifted[kMaxLattices];
    for (int k = 0; k < count; ++k) shifted[k] = values[k] + c;
    slice_rows<C>(lattices, shifted, count, base ? base + c : nullptr, rows + c, channels, begin,
                  end);
  }
};

void slice(const LatticeView* lattices, const float* const* values, int count, const float* base,
           float* rows, int channels, int64_t begin, int64_t end) {
  if (channels == 1) return slice_scalar(lattices, values, count, base, rows, begin, end);
  in_runs(channels, Slice{lattices, values, count, base, rows, channels, begin, end});
}

}  // namespace

extern const LatticeLoops kLatticeLoops;
const LatticeLoops kLatticeLoops = {embed_blocks<2, NarrowLanes>,
                                    embed_blocks<5, NarrowLanes>,
                                    embed_blocks<2, WideLanes>,
                                    embed_blocks<5, WideLanes>,
                                    probe,
                                    splat,
                                    blur,
                                    slice};

}  // namespace labelpenet::LABELPENET_ISA
