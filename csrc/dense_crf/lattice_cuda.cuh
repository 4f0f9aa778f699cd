// The permutohedral lattice on the device: kernels that build it and that filter with it.
//
// The numbers of the vertices and the order of their entries depend on which thread came first; the
// result does not: a vertex sums its entries in fixed point, where the order makes no difference,
// and nothing else looks at numbers or order.
#pragma once
#include "core/cuda_launch.cuh"
#include "dense_crf/dense_crf_math.hpp"

namespace labelpenet {
namespace {

using Word64 = unsigned long long;  // what CUDA's 64-bit atomics take

constexpr int kThreads = 128;
constexpr int kMaxBlocks = 4096;  // loops over vertices, whose number only the device knows
constexpr Word64 kEmpty = ~Word64{0};
// Fixed point: |weight * value| <= 7 (a weight of 1, times D^-1 where D >= 0.16), so that 2^31
// entries sum to less than 2^63.
constexpr float kFixedOne = 1 << 29;

// A lattice in scratch memory. N pixels, E = N (d + 1) entries, at most V vertices; vertex 0 stands
// for one that is not there and always holds zero.
struct DeviceLattice {
  int dims;
  int64_t pixels;
  int64_t vertex_limit;  // V
  int64_t slots;         // a power of two
  Word64* slot_key;      // [slots] or kEmpty
  int* slot_vertex;      // [slots] where the key is set
  int* vertices;         // [1] how many there are
  int* entries_placed;   // [1]
  Word64* vertex_key;    // [V + 1]
  int* count;            // [V + 1] entries of a vertex, then the next free entry
  int* neighbour;        // [d + 1, 2, V + 1] next and previous vertex along each axis
  int* corner;           // [d + 1, N] slot, then vertex
  float* slice;          // [d + 1, N] weight from vertex to pixel
  int* entry_vertex;     // [E] equal ones side by side
  int* entry_pixel;      // [E]
  float* entry_splat;    // [E] weight from pixel to vertex
  Word64* fixed;         // [V + 1, C] sums in fixed point; zero between the passes
  float* front;          // [V + 1, C]
  float* back;           // [V + 1, C]
};

inline unsigned vertex_blocks(int64_t items) {
  return static_cast<unsigned>(
      min(static_cast<int64_t>(blocks_for(items, kThreads)), static_cast<int64_t>(kMaxBlocks)));
}

__device__ __forceinline__ int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t thread_count() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

__device__ __forceinline__ int64_t first_slot(const DeviceLattice& l, Word64 key) {
  const Word64 mixed = key * 0x9E3779B97F4A7C15ull;  // Fibonacci hashing: the high bits are good
  return static_cast<int64_t>(mixed >> 32) & (l.slots - 1);
}

// ---- building ----------------------------------------------------------------------------------
template <int D>
__global__ void insert_kernel(DeviceLattice l, LatticeGeometry<D> g, const uint8_t* image,
                              int64_t width) {
  const int64_t pixel = thread_index();
  if (pixel >= l.pixels) return;
  float raw[D], weight[D + 1];
  uint64_t key[D + 1];
  raw[0] = static_cast<float>(pixel % width);
  raw[1] = static_cast<float>(pixel / width);
  for (int c = 2; c < D; ++c) raw[c] = image[3 * pixel + c - 2];
  embed<D, ScalarLanes>(g, raw, key, weight);
  for (int r = 0; r <= D; ++r) {
    int64_t at = first_slot(l, key[r]);
    for (;; at = (at + 1) & (l.slots - 1)) {
      Word64 found = *const_cast<volatile Word64*>(l.slot_key + at);
      if (found == kEmpty) {
        found = atomicCAS(l.slot_key + at, kEmpty, static_cast<Word64>(key[r]));
        if (found == kEmpty) {
          const int vertex = 1 + atomicAdd(l.vertices, 1);
          l.slot_vertex[at] = vertex;
          l.vertex_key[vertex] = key[r];
          break;
        }
      }
      if (found == key[r]) break;
    }
    l.corner[r * l.pixels + pixel] = static_cast<int>(at);
    l.slice[r * l.pixels + pixel] = weight[r];
  }
}

__global__ void count_kernel(DeviceLattice l) {
  const int64_t entry = thread_index();
  if (entry >= l.pixels * (l.dims + 1)) return;
  const int vertex = l.slot_vertex[l.corner[entry]];
  l.corner[entry] = vertex;
  atomicAdd(l.count + vertex, 1);
}

// Gives every vertex a stretch of the entries (whichever is free) and finds its neighbours.
template <int D>
__global__ void place_kernel(DeviceLattice l, LatticeGeometry<D> g) {
  const int lane = threadIdx.x % 32;
  const int vertices = *l.vertices;
  for (int64_t first = thread_index() - lane; first < vertices; first += thread_count()) {
    const int64_t v = 1 + first + lane;
    const int mine = v <= vertices ? l.count[v] : 0;
    int through = mine;  // sum of the warp's counts up to this lane
    for (int step = 1; step < 32; step *= 2) {
      const int before = __shfl_up_sync(~0u, through, step);
      if (lane >= step) through += before;
    }
    int start = 0;
    if (lane == 31) start = atomicAdd(l.entries_placed, through);
    start = __shfl_sync(~0u, start, 31);
    if (v > vertices) continue;
    l.count[v] = start + through - mine;
    for (int axis = 0; axis <= D; ++axis)
      for (int side = 0; side < 2; ++side) {
        const Word64 key = side == 0
                               ? next_vertex(g, static_cast<uint64_t>(l.vertex_key[v]), axis)
                               : previous_vertex(g, static_cast<uint64_t>(l.vertex_key[v]), axis);
        int64_t at = first_slot(l, key);
        while (l.slot_key[at] != kEmpty && l.slot_key[at] != key) at = (at + 1) & (l.slots - 1);
        l.neighbour[(2 * axis + side) * (l.vertex_limit + 1) + v] =
            l.slot_key[at] == key ? l.slot_vertex[at] : 0;
      }
  }
}

__global__ void fill_kernel(DeviceLattice l) {
  const int64_t i = thread_index();
  if (i >= l.pixels * (l.dims + 1)) return;
  const int vertex = l.corner[i];
  const int entry = atomicAdd(l.count + vertex, 1);
  l.entry_vertex[entry] = vertex;
  l.entry_pixel[entry] = static_cast<int>(i % l.pixels);
  l.entry_splat[entry] = l.slice[i];
}

// ---- filtering ---------------------------------------------------------------------------------
// C neighbouring threads take the C channels of S entries and add up those of one vertex.
template <int C, int S>
__global__ void splat_kernel(DeviceLattice l, const float* rows, int stride) {
  const int64_t entries = l.pixels * (l.dims + 1);
  const int c = static_cast<int>(thread_index() % C);
  const int64_t first = thread_index() / C * S;
  int vertex = 0;
  long long sum = 0;
  for (int64_t e = first; e < first + S && e < entries; ++e) {
    if (l.entry_vertex[e] != vertex) {
      if (vertex)
        atomicAdd(l.fixed + static_cast<int64_t>(vertex) * C + c, static_cast<Word64>(sum));
      vertex = l.entry_vertex[e];
      sum = 0;
    }
    const float value = rows[static_cast<int64_t>(l.entry_pixel[e]) * stride + c];
    const float share = l.entry_splat[e] * value * kFixedOne;
    if (share == share) sum += llrintf(share);  // a NaN stays with its pixel
  }
  if (vertex) atomicAdd(l.fixed + static_cast<int64_t>(vertex) * C + c, static_cast<Word64>(sum));
}

template <int C>
__global__ void to_float_kernel(DeviceLattice l) {
  const int64_t end = (int64_t{1} + *l.vertices) * C;
  for (int64_t i = thread_index(); i < end; i += thread_count()) {
    l.front[i] = static_cast<float>(static_cast<long long>(l.fixed[i])) * (1.0f / kFixedOne);
    l.fixed[i] = 0;
  }
}

template <int C>
__global__ void blur_kernel(DeviceLattice l, int axis, const float* in, float* out) {
  const int64_t end = (int64_t{1} + *l.vertices) * C;
  const int* next = l.neighbour + 2 * axis * (l.vertex_limit + 1);
  const int* previous = next + l.vertex_limit + 1;
  for (int64_t i = thread_index(); i < end; i += thread_count()) {
    const int64_t v = i / C, c = i % C;
    // vertex 0 stays zero, and has no neighbours in memory
    out[i] = v == 0 ? 0.0f
                    : in[i] + 0.5f * (in[static_cast<int64_t>(next[v]) * C + c] +
                                      in[static_cast<int64_t>(previous[v]) * C + c]);
  }
}

struct SliceArgs {
  DeviceLattice lattice[2];
  const float* values[2];  // [V + 1, C] after the last blur
  int count;
};

// rows[p, c] = sum over the lattices and corners of weight * value.
template <int C>
__global__ void slice_kernel(SliceArgs a, float* rows, int stride) {
  const int64_t pixels = a.lattice[0].pixels;
  const int64_t pixel = thread_index() / C, c = thread_index() % C;
  if (pixel >= pixels) return;
  float sum = 0;
  for (int k = 0; k < a.count; ++k) {
    const DeviceLattice& l = a.lattice[k];
    for (int r = 0; r <= l.dims; ++r)
      sum += l.slice[r * pixels + pixel] *
             a.values[k][static_cast<int64_t>(l.corner[r * pixels + pixel]) * C + c];
  }
  rows[pixel * stride + c] = sum;
}

__global__ void scale_slice_kernel(DeviceLattice l, const float* after, float factor) {
  const int64_t i = thread_index();
  if (i >= l.pixels * (l.dims + 1)) return;
  l.slice[i] *= after ? after[i % l.pixels] * factor : factor;
}

__global__ void scale_splat_kernel(DeviceLattice l, const float* before) {
  const int64_t e = thread_index();
  if (e < l.pixels * (l.dims + 1)) l.entry_splat[e] *= before[l.entry_pixel[e]];
}

}  // namespace
}  // namespace labelpenet
