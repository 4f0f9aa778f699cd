// The inner loops of the CPU path, compiled once per instruction set (core/simd.hpp).
#pragma once
#include <cmath>
#include <cstdint>

#include "core/simd.hpp"
#include "dense_crf/dense_crf_math.hpp"

namespace labelpenet {

constexpr int kLanes = 16;  // pixels per block: one AVX-512 vector
constexpr int kMaxLattices = 2;
constexpr uint32_t kNarrowHash = 0x9E3779B9u;  // 2^32 / golden ratio: the high bits are well mixed
constexpr float kNoLabel = -HUGE_VALF;         // score of a channel that only pads a row

constexpr int64_t blocks_of(int64_t pixels) { return (pixels + kLanes - 1) / kLanes; }

// One pixel's share in a vertex.
struct LatticeEntry {
  int pixel;
  float splat;  // weight from pixel to vertex
};

// One slot of the hash table of vertices whose keys fit 32 bits.
struct NarrowSlot {
  uint32_t key;
  int vertex;  // -1: free
};

// What the loops read of a lattice. P pixels in ceil(P / 16) blocks, M vertices, E = P (d + 1)
// entries. Rows of `channels` floats; row M of the vertex values is zero: a neighbour that is not
// there.
struct LatticeView {
  int dims;            // d: 2 or 5
  int64_t pixels;      // P
  int vertices;        // M
  const int* corner;   // [blocks, d + 1, 16] vertex of a pixel; M behind the last pixel
  const float* slice;  // [blocks, d + 1, 16] weight from vertex to pixel; 0 behind the last
  const int* start;    // [M + 1] first entry of a vertex
  const LatticeEntry* entries;  // [E] by vertex, then pixel
  const int* neighbour;         // [d + 1, 2, M] next and previous vertex along each axis, or M
};

struct LatticeLoops {
  // For blocks [begin, end): keys[block - begin, d + 1, 16], weights[block, d + 1, 16].
  void (*embed2)(const LatticeGeometry<2>&, const uint8_t* image, int64_t width, int64_t pixels,
                 int64_t begin, int64_t end, uint32_t* keys, float* weights);
  void (*embed5)(const LatticeGeometry<5>&, const uint8_t* image, int64_t width, int64_t pixels,
                 int64_t begin, int64_t end, uint32_t* keys, float* weights);
  void (*embed2_wide)(const LatticeGeometry<2>&, const uint8_t* image, int64_t width,
                      int64_t pixels, int64_t begin, int64_t end, uint64_t* keys, float* weights);
  void (*embed5_wide)(const LatticeGeometry<5>&, const uint8_t* image, int64_t width,
                      int64_t pixels, int64_t begin, int64_t end, uint64_t* keys, float* weights);
  // vertex[i] = the vertex in the first slot that keys[i] hashes to, or -1 where that slot is free
  // or another's: the caller then looks further. n is a multiple of 16.
  void (*probe)(const NarrowSlot* slots, int shift, const uint32_t* keys, int64_t n, int* vertex);

  // values[v] = sum over the entries of v of splat * rows[pixel], v in [begin, end).
  // channels: 1, or a multiple of 8.
  void (*splat)(const LatticeView&, const float* rows, float* values, int channels, int begin,
                int end);
  // out[v] = in[v] + (in[next] + in[previous]) / 2 along one axis, v in [begin, end).
  void (*blur)(const LatticeView&, int axis, const float* in, float* out, int channels, int begin,
               int end);
  // rows[p] = base[p] + sum over the lattices and corners of slice * values[corner], for blocks
  // [begin, end). base may be null: 0.
  void (*slice)(const LatticeView* lattices, const float* const* values, int count,
                const float* base, float* rows, int channels, int64_t begin, int64_t end);
};

struct MeanFieldLoops {
  // rows[p, c] = plus[c * stride + p] - minus[c * stride + p] for c < count, kNoLabel for the
  // channels behind; for pixels of blocks [begin, end), 0 behind the last. plus may be null: 0.
  void (*to_rows)(const float* plus, const float* minus, int64_t stride, int count, int64_t pixels,
                  float* rows, int channels, int64_t begin, int64_t end);
  // planes[c * stride + p] = rows[p, c], c < count; and 1 - rows[p, c] in `rest`, if not null.
  void (*to_planes)(const float* rows, int channels, int count, int64_t stride, int64_t pixels,
                    float* planes, float* rest, int64_t begin, int64_t end);
  // In place on n floats: 1 / (1 + exp(-x)). n is a multiple of 16.
  void (*sigmoid)(float* x, int64_t n);
  // In place on rows of `channels` floats (a multiple of 8). rows is a multiple of 16.
  void (*softmax)(float* x, int64_t rows, int channels);
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(labelpenet::LatticeLoops, kLatticeLoops)
LABELPENET_DECLARE_SIMD(labelpenet::MeanFieldLoops, kMeanFieldLoops)
