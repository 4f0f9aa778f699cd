// The hash table that numbers the vertices of a lattice.
#pragma once
#include <cstdint>
#include <type_traits>
#include <vector>

#include "dense_crf/crf_loops.hpp"

namespace labelpenet {

struct WideSlot {
  uint64_t key;
  int vertex;  // -1: free
};

// Open addressing, from keys of 32 or 64 bits to 0, 1, 2, ... in order of first insertion.
template <class Key>
class VertexTable {
 public:
  using Slot = std::conditional_t<sizeof(Key) == 4, NarrowSlot, WideSlot>;

  VertexTable() : slots_(size_t{1} << kFirstBits, Slot{0, -1}) {}

  int insert(Key key) {
    size_t at = home(key);
    for (; slots_[at].vertex >= 0; at = next(at))
      if (slots_[at].key == key) return slots_[at].vertex;
    const int vertex = static_cast<int>(keys_.size());
    slots_[at] = {key, vertex};
    keys_.push_back(key);
    if (4 * keys_.size() > slots_.size()) grow();  // sparse: nearly every probe hits at once
    return vertex;
  }

  // -1 where the key was never inserted.
  int find(Key key) const {
    size_t at = home(key);
    while (slots_[at].vertex >= 0 && slots_[at].key != key) at = next(at);
    return slots_[at].vertex;
  }

  const std::vector<Key>& keys() const { return keys_; }
  const Slot* slots() const { return slots_.data(); }
  int shift() const { return shift_; }

 private:
  static constexpr int kFirstBits = 14;

  // Fibonacci hashing: the high bits of a product with 2^bits / golden ratio.
  size_t home(Key key) const {
    if constexpr (sizeof(Key) == 4) return (key * kNarrowHash) >> shift_;
    return (key * 0x9E3779B97F4A7C15u) >> shift_;
  }
  size_t next(size_t at) const { return (at + 1) & (slots_.size() - 1); }

  void grow() {
    --shift_;
    slots_.assign(slots_.size() * 2, Slot{0, -1});
    for (size_t vertex = 0; vertex < keys_.size(); ++vertex) {
      size_t at = home(keys_[vertex]);
      while (slots_[at].vertex >= 0) at = next(at);
      slots_[at] = {keys_[vertex], static_cast<int>(vertex)};
    }
  }

  std::vector<Slot> slots_;
  std::vector<Key> keys_;
  int shift_ = 8 * sizeof(Key) - kFirstBits;
};

}  // namespace labelpenet
