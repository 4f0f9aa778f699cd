#include "roi_pool/roi_pool_simd.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace labelpenet::LABELPENET_ISA {
namespace {

// GCC's and Clang's vector types: the same source for every instruction set. `a > b ? a : b` keeps
// b where they tie or a is NaN, which is what makes the results equal to the last bit everywhere.
#if defined(__AVX512F__)
constexpr int kNative = 16;
#define LABELPENET_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define LABELPENET_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
constexpr int kNative = 8;
#define LABELPENET_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define LABELPENET_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
constexpr int kNative = 4;
#define LABELPENET_LOW 0, 4, 1, 5
#define LABELPENET_HIGH 2, 6, 3, 7
#endif
constexpr int kBytes = 4 * kNative;
typedef float Floats __attribute__((vector_size(kBytes)));
typedef int32_t Ints __attribute__((vector_size(kBytes)));
// the same in memory of any float's or int's alignment
typedef float LooseFloats __attribute__((vector_size(kBytes), aligned(4), may_alias));
typedef int32_t LooseInts __attribute__((vector_size(kBytes), aligned(4), may_alias));

constexpr int kVectors = kTileLanes / kNative;  // registers that hold the channels of one cell

inline Floats read(const float* p) { return *reinterpret_cast<const LooseFloats*>(p); }
inline Ints read(const int32_t* p) { return *reinterpret_cast<const LooseInts*>(p); }
inline void write(float* p, Floats v) { *reinterpret_cast<LooseFloats*>(p) = v; }
inline void write(int32_t* p, Ints v) { *reinterpret_cast<LooseInts*>(p) = v; }
inline Floats same(float x) { return Floats{} + x; }
inline Ints same(int32_t x) { return Ints{} + x; }

// In place, kNative x kNative: interleaving row i with row i + kNative / 2 moves the top bit of the
// row number to the bottom of the column number; doing so for every bit transposes.
inline void transpose(Floats (&m)[kNative]) {
  for (int bit = 1; bit < kNative; bit *= 2) {
    Floats next[kNative];
    for (int i = 0; i < kNative / 2; ++i) {
      next[2 * i] = __builtin_shufflevector(m[i], m[i + kNative / 2], LABELPENET_LOW);
      next[2 * i + 1] = __builtin_shufflevector(m[i], m[i + kNative / 2], LABELPENET_HIGH);
    }
    for (int i = 0; i < kNative; ++i) m[i] = next[i];
  }
}

// The running maximum over cells, and where it was, of the channels of one cell.
template <bool kIndexed>
struct Best {
  Floats value[kVectors];
  Ints index[kIndexed ? kVectors : 1];

  void start() {
    for (int v = 0; v < kVectors; ++v) {
      value[v] = same(kLowest);
      if (kIndexed) index[v] = same(-1);
    }
  }
  void take(const RoiTile& tile, int64_t at) {
    for (int v = 0; v < kVectors; ++v, at += kNative) {
      const Floats x = read(tile.value + at);
      const Ints above = x > value[v];
      value[v] = x > value[v] ? x : value[v];
      if constexpr (kIndexed) index[v] = above ? read(tile.index + at) : index[v];
    }
  }
  void put(float* values, int32_t* indices, int64_t at) const {
    for (int v = 0; v < kVectors; ++v, at += kNative) {
      write(values + at, value[v]);
      if constexpr (kIndexed) write(indices + at, index[v]);
    }
  }
};

inline int64_t cell(const RoiTile& tile, int y, int x) {
  return (static_cast<int64_t>(y) * tile.width + x) * kTileLanes;
}

void load(const float* planes, int64_t plane_stride, int lanes, int image_width,
          const RoiTile& tile) {
  for (int y = 0; y < tile.height; ++y) {
    const float* row = planes + static_cast<int64_t>(tile.top + y) * image_width + tile.left;
    for (int first = 0; first < kTileLanes; first += kNative) {
      float* to = tile.value + cell(tile, y, 0) + first;
      int x = 0;
      for (; x + kNative <= tile.width; x += kNative, to += kNative * kTileLanes) {
        Floats block[kNative];
        for (int i = 0; i < kNative; ++i)
          block[i] = first + i < lanes ? read(row + (first + i) * plane_stride + x) : same(kLowest);
        transpose(block);
        for (int i = 0; i < kNative; ++i) write(to + i * kTileLanes, block[i]);
      }
      for (; x < tile.width; ++x, to += kTileLanes)
        for (int i = 0; i < kNative; ++i)
          to[i] = first + i < lanes ? row[(first + i) * plane_stride + x] : kLowest;
    }
    if (!tile.index) continue;
    const int32_t row_start = (tile.top + y) * image_width + tile.left;
    for (int x = 0; x < tile.width; ++x)
      for (int v = 0; v < kTileLanes; v += kNative)
        write(tile.index + cell(tile, y, x) + v, same(row_start + x));
  }
}

template <bool kIndexed>
void widen_tile(const RoiTile& tile, int step) {
  for (int y = 0; y < tile.height; ++y)
    for (int x = 0; x + step < tile.width; ++x) {
      const int64_t at = cell(tile, y, x), right = at + step * kTileLanes;
      Best<kIndexed> best;
      best.start();
      best.take(tile, at);
      best.take(tile, right);
      best.put(tile.value, tile.index, at);
    }
}

void widen(const RoiTile& tile, int step) {
  tile.index ? widen_tile<true>(tile, step) : widen_tile<false>(tile, step);
}

// [bins, kTileLanes] -> [lanes, bins]
void unpack(const float* from, int bins, int lanes, float* to) {
  for (int first = 0; first < lanes; first += kNative) {
    const int count = lanes - first < kNative ? lanes - first : kNative;
    int bin = 0;
    for (; bin + kNative <= bins; bin += kNative) {
      Floats block[kNative];
      for (int i = 0; i < kNative; ++i) block[i] = read(from + (bin + i) * kTileLanes + first);
      transpose(block);
      for (int i = 0; i < count; ++i)
        write(to + static_cast<int64_t>(first + i) * bins + bin, block[i]);
    }
    for (; bin < bins; ++bin)
      for (int i = 0; i < count; ++i)
        to[static_cast<int64_t>(first + i) * bins + bin] = from[bin * kTileLanes + first + i];
  }
}

template <bool kIndexed>
void pool_bins(const RoiTile& tile, int step, const RoiBins& bins, float* values,
               int32_t* indices) {
  int64_t to = 0;
  for (int ph = 0; ph < bins.pooled_height; ++ph) {
    const Span rows = bins.rows[ph];
    for (int pw = 0; pw < bins.pooled_width; ++pw, to += kTileLanes) {
      const Span columns = bins.columns[pw];
      Best<kIndexed> best;
      best.start();
      if (rows.begin >= rows.end || columns.begin >= columns.end)
        for (int v = 0; v < kVectors; ++v) best.value[v] = same(0.0f);
      else
        for (int y = rows.begin - tile.top; y < rows.end - tile.top; ++y) {
          const int last = columns.end - tile.left - step;
          for (int x = columns.begin - tile.left; x < last; x += step)
            best.take(tile, cell(tile, y, x));
          best.take(tile, cell(tile, y, last));
        }
      best.put(values, indices, to);
    }
  }
}

// Copies `count` floats past the caches; both 64-byte aligned, count a multiple of kTileLanes.
inline void stream(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kNative) {
#if defined(__AVX512F__)
    _mm512_stream_ps(to + i, _mm512_load_ps(from + i));
#elif defined(__AVX2__)
    _mm256_stream_ps(to + i, _mm256_load_ps(from + i));
#elif defined(__SSE2__)
    _mm_stream_ps(to + i, _mm_load_ps(from + i));
#else
    write(to + i, read(from + i));
#endif
  }
}

// `packed` holds a copy of what is streamed; null = store plainly.
inline void put_bins(const float* from, int bins, int lanes, float* packed, float* to) {
  if (!packed) return unpack(from, bins, lanes, to);
  unpack(from, bins, lanes, packed);
  stream(packed, static_cast<int64_t>(lanes) * bins, to);
}

void pool(const RoiTile& tile, int step, const RoiBins& bins, int lanes, bool past_caches,
          float* scratch, float* pooled, int32_t* argmax) {
  const int count = bins.pooled_height * bins.pooled_width;
  float* index = scratch + count * kTileLanes;
  float* packed = past_caches ? index + count * kTileLanes : nullptr;
  if (tile.index) {
    pool_bins<true>(tile, step, bins, scratch, reinterpret_cast<int32_t*>(index));
    put_bins(index, count, lanes, packed, reinterpret_cast<float*>(argmax));
  } else {
    pool_bins<false>(tile, step, bins, scratch, nullptr);
  }
  put_bins(scratch, count, lanes, packed, pooled);
}

// Streamed stores are ordered with nothing; this orders them before whatever the thread does next.
void finish() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace

extern const RoiPoolLoops kRoiPoolLoops = {load, widen, pool, finish};

}  // namespace labelpenet::LABELPENET_ISA
