#include "dense_crf/lattice_cpu.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "core/parallel.hpp"

namespace labelpenet {
namespace {

constexpr int kMaxParts = 8;          // an image's pixels are numbered by this many threads at most
constexpr int64_t kChunkBlocks = 32;  // blocks embedded at a time, so that their keys stay in L1
constexpr int64_t kVertexGrain = 2048;

// Open-addressing hash table from keys to 0, 1, 2, ... in order of first insertion.
template <class Key>
class VertexTable {
 public:
  VertexTable() : slots_(size_t{1} << kFirstBits, Slot{0, kFree}), shift_(64 - kFirstBits) {}

  int insert(Key key) {
    for (size_t at = slot_of(key);; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.id != kFree) {
        if (slot.key == key) return slot.id;
        continue;
      }
      const int id = static_cast<int>(keys_.size());
      slots_[at] = {key, id};
      keys_.push_back(key);
      if (2 * keys_.size() > slots_.size()) grow();
      return id;
    }
  }

  // -1 where the key was never inserted.
  int find(Key key) const {
    for (size_t at = slot_of(key);; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.id == kFree || slot.key == key) return slot.id;
    }
  }

  const std::vector<Key>& keys() const { return keys_; }

 private:
  static constexpr int kFree = -1, kFirstBits = 12;
  struct Slot {
    Key key;
    int id;
  };

  // Fibonacci hashing: the high bits of a product with 2^64 / golden ratio.
  size_t slot_of(Key key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }

  void grow() {
    shift_ -= 2;
    slots_.assign(slots_.size() * 4, Slot{0, kFree});
    for (size_t id = 0; id < keys_.size(); ++id) {
      size_t at = slot_of(keys_[id]);
      while (slots_[at].id != kFree) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = {keys_[id], static_cast<int>(id)};
    }
  }

  std::vector<Slot> slots_;
  std::vector<Key> keys_;
  int shift_;
};

// Runs body(part) for each part; an exception (no memory) must not leave an OpenMP region.
template <class Body>
void for_parts(int parts, int threads, const Body& body) {
  std::vector<std::exception_ptr> errors(parts);
  parallel_for(parts, 1, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t part = begin; part < end; ++part) {
      try {
        body(static_cast<int>(part));
      } catch (...) {
        errors[part] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

int64_t part_begin(int64_t pixels, int parts, int part) { return blocks_of(pixels) * part / parts; }

template <int D, class Key>
auto embed_loop(const CrfLoops& loops) {
  if constexpr (D == 2 && std::is_same_v<Key, uint32_t>) return loops.embed2;
  if constexpr (D == 5 && std::is_same_v<Key, uint32_t>) return loops.embed5;
  if constexpr (D == 2 && std::is_same_v<Key, uint64_t>) return loops.embed2_wide;
  if constexpr (D == 5 && std::is_same_v<Key, uint64_t>) return loops.embed5_wide;
}

}  // namespace

Lattice::Lattice(const uint8_t* image, int64_t height, int64_t width, const CrfKernel& kernel,
                 int threads) {
  view_.dims = kernel.dims();
  view_.pixels = height * width;
  if (view_.pixels > (std::numeric_limits<int>::max() - kLanes) / (view_.dims + 1))
    throw std::invalid_argument("image: too large for a lattice with 32-bit entries");
  auto with_keys = [&](const auto& g) {
    constexpr int D = sizeof(g.low) / sizeof(int);
    if (g.bits <= 32)
      build<D, uint32_t>(image, height, width, g, threads);
    else
      build<D, uint64_t>(image, height, width, g, threads);
  };
  if (kernel.dims() == 2)
    with_keys(make_lattice_geometry<2>(height, width, kernel.sxy, kernel.srgb));
  else
    with_keys(make_lattice_geometry<5>(height, width, kernel.sxy, kernel.srgb));
}

template <int D, class Key>
void Lattice::build(const uint8_t* image, int64_t, int64_t width, const LatticeGeometry<D>& g,
                    int threads) {
  const CrfLoops& loops = LABELPENET_PICK(kCrfLoops);
  const int64_t blocks = blocks_of(view_.pixels), padded = blocks * kLanes;
  corner_ = Buffer<int>(padded * (D + 1));
  slice_ = Buffer<float>(padded * (D + 1));

  // Each part numbers its own vertices; merging the parts in order gives every vertex the number
  // that one pass over the whole image would have given it.
  const int parts =
      static_cast<int>(std::clamp<int64_t>(blocks / kChunkBlocks, 1, std::min(threads, kMaxParts)));
  std::vector<VertexTable<Key>> tables(parts);
  for_parts(parts, threads, [&](int part) {
    std::vector<Key> keys(kChunkBlocks * (D + 1) * kLanes);
    const int64_t last = part_begin(view_.pixels, parts, part + 1);
    for (int64_t b = part_begin(view_.pixels, parts, part); b < last; b += kChunkBlocks) {
      const int64_t end = std::min(b + kChunkBlocks, last);
      embed_loop<D, Key>(loops)(g, image, width, view_.pixels, b, end, keys.data(), slice_.get());
      int* corner = corner_.get() + b * (D + 1) * kLanes;
      for (int64_t i = 0; i < (end - b) * (D + 1) * kLanes; ++i)
        corner[i] = tables[part].insert(keys[i]);
    }
  });

  VertexTable<Key>& all = tables[0];
  std::vector<std::vector<int>> number(parts);
  for (int part = 1; part < parts; ++part) {
    number[part].reserve(tables[part].keys().size());
    for (Key key : tables[part].keys()) number[part].push_back(all.insert(key));
  }
  view_.vertices = static_cast<int>(all.keys().size());
  for_parts(parts, threads, [&](int part) {
    if (part == 0) return;
    const int* map = number[part].data();
    int* const last = corner_.get() + part_begin(view_.pixels, parts, part + 1) * (D + 1) * kLanes;
    for (int* c = corner_.get() + part_begin(view_.pixels, parts, part) * (D + 1) * kLanes;
         c < last; ++c)
      *c = map[*c];
  });
  for (int64_t lane = kLanes - (padded - view_.pixels); lane < kLanes; ++lane)
    for (int r = 0; r <= D; ++r)
      corner_[((blocks - 1) * (D + 1) + r) * kLanes + lane] = view_.vertices;

  find_neighbours<D>(g, all, threads);
  order_entries(parts, threads);
  view_.corner = corner_.get();
  view_.slice = slice_.get();
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

// The transpose of corner_: a counting sort, each part filling its own stretch of every vertex, so
// that a vertex's entries are in the order of the pixels.
void Lattice::order_entries(int parts, int threads) {
  const int corners = view_.dims + 1, m = view_.vertices;
  const int64_t entries = view_.pixels * corners;
  std::vector<Buffer<int>> cursor(parts);
  for (Buffer<int>& c : cursor) c = Buffer<int>(m + 1);  // + 1: the padding's vertex
  auto first = [&](int part) { return part_begin(view_.pixels, parts, part) * corners * kLanes; };
  for_parts(parts, threads, [&](int part) {
    int* count = cursor[part].get();
    std::fill_n(count, m + 1, 0);
    for (int64_t i = first(part); i < first(part + 1); ++i) ++count[corner_[i]];
  });
  start_ = Buffer<int>(m + 1);
  int at = 0;
  for (int v = 0; v < m; ++v) {
    start_[v] = at;
    for (int part = 0; part < parts; ++part) {
      const int count = cursor[part][v];
      cursor[part][v] = at;
      at += count;
    }
  }
  start_[m] = at;
  entry_pixel_ = Buffer<int>(entries);
  entry_splat_ = Buffer<float>(entries);
  for_parts(parts, threads, [&](int part) {
    int* to = cursor[part].get();
    for (int64_t b = part_begin(view_.pixels, parts, part);
         b < part_begin(view_.pixels, parts, part + 1); ++b) {
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, view_.pixels - b * kLanes));
      for (int r = 0; r < corners; ++r) {
        for (int lane = 0; lane < lanes; ++lane) {
          const int64_t i = (b * corners + r) * kLanes + lane;
          const int entry = to[corner_[i]]++;
          entry_pixel_[entry] = static_cast<int>(b * kLanes + lane);
          entry_splat_[entry] = slice_[i];
        }
      }
    }
  });
  view_.start = start_.get();
  view_.entry_pixel = entry_pixel_.get();
  view_.entry_splat = entry_splat_.get();
}

const float* Lattice::splat_and_blur(const CrfLoops& loops, const float* rows, int channels,
                                     float* front, float* back, int threads) const {
  const int64_t m = view_.vertices;
  std::fill_n(front + m * channels, channels, 0.0f);
  std::fill_n(back + m * channels, channels, 0.0f);
  parallel_for(m, kVertexGrain, threads, [&](int64_t begin, int64_t end, int) {
    loops.splat(view_, rows, front, channels, static_cast<int>(begin), static_cast<int>(end));
  });
  for (int axis = 0; axis <= view_.dims; ++axis) {
    parallel_for(m, kVertexGrain, threads, [&](int64_t begin, int64_t end, int) {
      loops.blur(view_, axis, front, back, channels, static_cast<int>(begin),
                 static_cast<int>(end));
    });
    std::swap(front, back);
  }
  return front;
}

void Lattice::scale(const float* before, const float* after, float factor, int threads) {
  const int corners = view_.dims + 1;
  parallel_for(view_.pixels * corners, 1 << 14, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t e = begin; e < end; ++e) entry_splat_[e] *= before[entry_pixel_[e]];
  });
  parallel_for(blocks_of(view_.pixels), 1 << 10, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t b = begin; b < end; ++b)
      for (int r = 0; r < corners; ++r)
        for (int lane = 0; lane < kLanes; ++lane)
          slice_[(b * corners + r) * kLanes + lane] *= after[b * kLanes + lane] * factor;
  });
}

}  // namespace labelpenet
