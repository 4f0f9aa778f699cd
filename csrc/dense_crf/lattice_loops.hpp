// The inner loops of the CPU lattice filter, compiled once per instruction set (core/simd.hpp).
#pragma once
#include <cstdint>

#include "core/simd.hpp"
#include "dense_crf/dense_crf_math.hpp"

namespace labelpenet {

constexpr int kLanes = 16;  // pixels per block: one AVX-512 vector
constexpr int kMaxLattices = 2;

// What the loops read of a lattice. P pixels in ceil(P / 16) blocks, M vertices, E = P (d + 1)
// entries. Rows of `channels` floats; row M of the vertex values is zero: a neighbour that is not
// there.
struct LatticeView {
  int dims;                  // d: 2 or 5
  int64_t pixels;            // P
  int vertices;              // M
  const int* corner;         // [blocks, d + 1, 16] vertex of a pixel; M in the last block's padding
  const float* slice;        // [blocks, d + 1, 16] weight from vertex to pixel; 0 in the padding
  const int* start;          // [M + 1] first entry of a vertex
  const int* entry_pixel;    // [E] by vertex, then pixel
  const float* entry_splat;  // [E] weight from pixel to vertex
  const int* neighbour;      // [d + 1, 2, M] next and previous vertex along each axis, or M
};

struct CrfLoops {
  // For blocks [begin, end): keys[block - begin, d + 1, 16], weights[block, d + 1, 16].
  void (*embed2)(const LatticeGeometry<2>&, const uint8_t* image, int64_t width, int64_t pixels,
                 int64_t begin, int64_t end, uint32_t* keys, float* weights);
  void (*embed5)(const LatticeGeometry<5>&, const uint8_t* image, int64_t width, int64_t pixels,
                 int64_t begin, int64_t end, uint32_t* keys, float* weights);
  void (*embed2_wide)(const LatticeGeometry<2>&, const uint8_t* image, int64_t width,
                      int64_t pixels, int64_t begin, int64_t end, uint64_t* keys, float* weights);
  void (*embed5_wide)(const LatticeGeometry<5>&, const uint8_t* image, int64_t width,
                      int64_t pixels, int64_t begin, int64_t end, uint64_t* keys, float* weights);

  // values[v] = sum over the entries of v of splat * rows[pixel], v in [begin, end).
  // channels: 1, or a multiple of 8 with rows aligned to 32 bytes.
  void (*splat)(const LatticeView&, const float* rows, float* values, int channels, int begin,
                int end);
  // out[v] = in[v] + (in[next] + in[previous]) / 2 along one axis, v in [begin, end).
  void (*blur)(const LatticeView&, int axis, const float* in, float* out, int channels, int begin,
               int end);
  // rows[p] = base[p] + sum over the lattices and corners of slice * values[corner], in blocks
  // [begin, end). base may be null: 0.
  void (*slice)(const LatticeView* lattices, const float* const* values, int count,
                const float* base, float* rows, int channels, int64_t begin, int64_t end);
  // In place on n floats: 1 / (1 + exp(-x)). n is a multiple of 16.
  void (*sigmoid)(float* x, int64_t n);
  // In place on `rows` rows of `channels` floats (a multiple of 8).
  void (*softmax)(float* x, int64_t rows, int channels);
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(labelpenet::CrfLoops, kCrfLoops)
