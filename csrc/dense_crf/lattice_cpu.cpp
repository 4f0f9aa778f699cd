#include "dense_crf/lattice_cpu.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.hpp"
#include "dense_crf/vertex_table.hpp"

namespace labelpenet {
namespace {

constexpr int kMaxParts = 8;
constexpr int64_t kChunkBlocks = 32;  // blocks embedded at a time, so that their keys stay in L1
constexpr int64_t kBlockGrain = 256;
constexpr int64_t kVertexGrain = 2048;
constexpr int64_t kBlurGrain = 1 << 18;  // floats: a blur pass over fewer costs less than a barrier
// Sums of weights are taken in fixed point, so that they do not depend on the number of parts. A
// weight is at most 1 and there are at most 2^31 of them.
constexpr float kFixedOne = 1 << 30;

// Runs body(part, first block, end) for each part.
template <class Body>
void for_parts(int64_t pixels, int parts, int threads, const Body& body) {
  const int64_t blocks = blocks_of(pixels);
  parallel_for(parts, 1, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t part = begin; part < end; ++part)
      body(static_cast<int>(part), blocks * part / parts, blocks * (part + 1) / parts);
  });
}

template <int D, class Key>
auto embed_loop(const LatticeLoops& loops) {
  if constexpr (std::is_same_v<Key, uint32_t>) {
    if constexpr (D == 2) return loops.embed2;
    if constexpr (D == 5) return loops.embed5;
  } else {
    if constexpr (D == 2) return loops.embed2_wide;
    if constexpr (D == 5) return loops.embed5_wide;
  }
}

// Numbers of the vertices with these keys, [n], n a multiple of 16.
void insert_all(const LatticeLoops& loops, VertexTable<uint32_t>* table, const uint32_t* keys,
                int64_t n, int* vertex) {
  loops.probe(table->slots(), table->shift(), keys, n, vertex);  // nearly all are known
  for (int64_t i = 0; i < n; ++i)
    if (vertex[i] < 0) vertex[i] = table->insert(keys[i]);
}

void insert_all(const LatticeLoops&, VertexTable<uint64_t>* table, const uint64_t* keys, int64_t n,
                int* vertex) {
  for (int64_t i = 0; i < n; ++i) vertex[i] = table->insert(keys[i]);
}

}  // namespace

Lattice::Lattice(const uint8_t* image, int64_t height, int64_t width, const CrfKernel& kernel,
                 CrfNormalization normalization, float factor, int threads) {
  view_.dims = kernel.dims();
  view_.pixels = height * width;
  if (view_.pixels > (std::numeric_limits<int>::max() - kLanes) / (view_.dims + 1))
    throw std::invalid_argument("image: too large for a lattice with 32-bit entries");
  parts_ = static_cast<int>(
      std::clamp<int64_t>(blocks_of(view_.pixels) / kBlockGrain, 1, std::min(threads, kMaxParts)));
  const auto number = [&](const auto& g) {
    constexpr int D = sizeof(g.low) / sizeof(int);
    if (g.bits <= 32)
      number_vertices<D, uint32_t>(image, width, g, threads);
    else
      number_vertices<D, uint64_t>(image, width, g, threads);
  };
  if (kernel.dims() == 2)
    number(make_lattice_geometry<2>(height, width, kernel.sxy, kernel.srgb));
  else
    number(make_lattice_geometry<5>(height, width, kernel.sxy, kernel.srgb));
  order_entries(normalization, factor, threads);
}

template <int D, class Key>
void Lattice::number_vertices(const uint8_t* image, int64_t width, const LatticeGeometry<D>& g,
                              int threads) {
  const int64_t blocks = blocks_of(view_.pixels), size = (D + 1) * kLanes;  // entries of a block
  corner_ = Buffer<int>(blocks * size);
  slice_ = Buffer<float>(blocks * size);

  // Each part numbers its own vertices; merging the parts in order gives every vertex the number
  // that one pass over the whole image would have given it.
  std::vector<VertexTable<Key>> tables(parts_);
  for_parts(view_.pixels, parts_, threads, [&](int part, int64_t first, int64_t last) {
    std::vector<Key> keys(kChunkBlocks * size);
    for (int64_t b = first; b < last; b += kChunkBlocks) {
      const int64_t end = std::min(b + kChunkBlocks, last);
      embed_loop<D, Key>(loops_)(g, image, width, view_.pixels, b, end, keys.data(), slice_.get());
      for (int64_t i = 0; i < end - b; ++i)
        insert_all(loops_, &tables[part], keys.data() + i * size, size,
                   corner_.get() + (b + i) * size);
    }
  });

  VertexTable<Key>& all = tables[0];
  std::vector<std::vector<int>> number(parts_);
  for (int part = 1; part < parts_; ++part) {
    number[part].reserve(tables[part].keys().size());
    for (Key key : tables[part].keys()) number[part].push_back(all.insert(key));
  }
  view_.vertices = static_cast<int>(all.keys().size());
  for_parts(view_.pixels, parts_, threads, [&](int part, int64_t first, int64_t last) {
    if (part == 0) return;
    const int* map = number[part].data();
    for (int64_t i = first * size; i < last * size; ++i) corner_[i] = map[corner_[i]];
  });
  for (int64_t lane = view_.pixels - (blocks - 1) * kLanes; lane < kLanes; ++lane)
    for (int r = 0; r <= D; ++r) corner_[(blocks - 1) * size + r * kLanes + lane] = view_.vertices;
  view_.corner = corner_.get();
  view_.slice = slice_.get();
  find_neighbours(g, all, threads);
}

template <int D, class Table>
void Lattice::find_neighbours(const LatticeGeometry<D>& g, const Table& table, int threads) {
  const int64_t m = view_.vertices;
  neighbour_ = Buffer<int>(2 * (D + 1) * m);
  std::fill_n(neighbour_.get(), 2 * (D + 1) * m, view_.vertices);
  parallel_for(m, kVertexGrain, threads, [&](int64_t begin, int64_t end, int) {
    for (int axis = 0; axis <= D; ++axis) {
      int* next = neighbour_.get() + 2 * axis * m;
      int* previous = next + m;
      for (int64_t v = begin; v < end; ++v) {
        const int found = table.find(next_vertex(g, table.keys()[v], axis));
        if (found < 0) continue;
        next[v] = found;
        previous[found] = static_cast<int>(v);  // written once: only v comes before `found`
      }
    }
  });
  view_.neighbour = neighbour_.get();
}

// Transposes corner_ into entries_, a counting sort: each part fills its own stretch of every
// vertex, so that a vertex's entries are in the order of the pixels. On the way the normalisation
// goes into the weights of the entries and of slice_.
void Lattice::order_entries(CrfNormalization normalization, float factor, int threads) {
  const int corners = view_.dims + 1, m = view_.vertices;
  const int64_t padded = blocks_of(view_.pixels) * kLanes, size = corners * kLanes;
  std::vector<Buffer<int>> cursor(parts_);
  std::vector<Buffer<int64_t>> weight(parts_);
  for_parts(view_.pixels, parts_, threads, [&](int part, int64_t first, int64_t last) {
    cursor[part] = Buffer<int>(m + 1);  // + 1: the vertex behind the last pixel
    weight[part] = Buffer<int64_t>(m + 1);
    std::fill_n(cursor[part].get(), m + 1, 0);
    std::fill_n(weight[part].get(), m + 1, 0);
    for (int64_t i = first * size; i < last * size; ++i) {
      ++cursor[part][corner_[i]];
      weight[part][corner_[i]] += static_cast<int>(slice_[i] * kFixedOne);
    }
  });
  start_ = Buffer<int>(m + 1);
  Buffer<float> front(m + 1), back(m + 1), before(padded), after(padded);
  int at = 0;
  for (int v = 0; v < m; ++v) {
    start_[v] = at;
    int64_t sum = 0;
    for (int part = 0; part < parts_; ++part) {
      const int count = cursor[part][v];
      cursor[part][v] = at;
      at += count;
      sum += weight[part][v];
    }
    front[v] = static_cast<float>(sum) * (1 / kFixedOne);
  }
  start_[m] = at;

  // D = K 1, and what it makes of the weights
  const float* ones = blur(1, front.get(), back.get(), threads);
  const float scale = view_.dims == 2 ? slice_scale<2>() : slice_scale<5>();
  parallel_for(blocks_of(view_.pixels), kBlockGrain, threads, [&](int64_t begin, int64_t end, int) {
    loops_.slice(&view_, &ones, 1, nullptr, after.get(), 1, begin, end);
    for (int64_t p = begin * kLanes; p < end * kLanes; ++p) {
      const float degree = after[p] * scale + 1e-20f;
      const float root = 1 / std::sqrt(degree);
      const bool both = normalization == CrfNormalization::kSymmetric;
      before[p] = both ? root : normalization == CrfNormalization::kBefore ? 1 / degree : 1.0f;
      after[p] = both ? root : normalization == CrfNormalization::kAfter ? 1 / degree : 1.0f;
      after[p] *= scale * factor;
    }
  });

  entries_ = Buffer<LatticeEntry>(view_.pixels * corners);
  for_parts(view_.pixels, parts_, threads, [&](int part, int64_t first, int64_t last) {
    int* to = cursor[part].get();
    for (int64_t b = first; b < last; ++b) {
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, view_.pixels - b * kLanes));
      for (int r = 0; r < corners; ++r) {
        for (int lane = 0; lane < lanes; ++lane) {
          const int64_t i = b * size + r * kLanes + lane, p = b * kLanes + lane;
          entries_[to[corner_[i]]++] = {static_cast<int>(p), slice_[i] * before[p]};
          slice_[i] *= after[p];
        }
      }
    }
  });
  view_.start = start_.get();
  view_.entries = entries_.get();
}

const float* Lattice::blur(int channels, float* front, float* back, int threads) const {
  const int64_t m = view_.vertices;
  std::fill_n(front + m * channels, channels, 0.0f);
  std::fill_n(back + m * channels, channels, 0.0f);
  for (int axis = 0; axis <= view_.dims; ++axis) {
    parallel_for(m, kBlurGrain / channels, threads, [&](int64_t begin, int64_t end, int) {
      loops_.blur(view_, axis, front, back, channels, static_cast<int>(begin),
                  static_cast<int>(end));
    });
    std::swap(front, back);
  }
  return front;
}

const float* Lattice::splat_and_blur(const float* rows, int channels, float* front, float* back,
                                     int threads) const {
  parallel_for(view_.vertices, kVertexGrain, threads, [&](int64_t begin, int64_t end, int) {
    loops_.splat(view_, rows, front, channels, static_cast<int>(begin), static_cast<int>(end));
  });
  return blur(channels, front, back, threads);
}

}  // namespace labelpenet
