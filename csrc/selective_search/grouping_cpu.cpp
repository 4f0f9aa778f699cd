// Hierarchical grouping (algorithm 1 of the paper): join the two most similar neighbours, again and
// again, until one region is left.
#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "selective_search/selective_search_simd.hpp"
#include "selective_search/stages.hpp"

namespace labelpenet {
namespace {

// Histograms are compared as shares of a region's pixels, in 1 / kUnit.
constexpr int kUnit = 32767;

struct Pair {
  double similarity;
  int32_t a, b;  // nodes, a < b
};

// The most similar pair on top; of equal ones the oldest.
struct Later {
  bool operator()(const Pair& p, const Pair& q) const {
    if (p.similarity != q.similarity) return p.similarity < q.similarity;
    return p.a != q.a ? p.a > q.a : p.b > q.b;
  }
};

class Grouping {
 public:
  Grouping(const BaseRegions& regions, int similarity)
      : regions_(regions),
        similarity_(similarity),
        begin_(similarity & kColor ? 0 : regions.texture_begin()),
        end_(similarity & kTexture ? regions.stride
             : similarity & kColor ? regions.texture_begin()
                                   : begin_),
        histograms_(similarity & (kColor | kTexture) ? regions.histograms : std::vector<int32_t>()),
        shares_(histograms_.size()),
        slot_(2 * size_t(regions.count) - 1),
        sizes_(regions.sizes),
        neighbors_(regions.count) {
    tree_.leaves = regions.count;
    tree_.boxes = regions.boxes;
    for (int i = 0; i < regions.count; ++i) {
      slot_[i] = i;
      image_size_ += regions.sizes[i];
      share(i);
    }
    for (const uint64_t pair : regions.neighbors) {
      const auto a = static_cast<int32_t>(pair >> 32), b = static_cast<int32_t>(pair);
      neighbors_[a].push_back(b);
      neighbors_[b].push_back(a);
    }
    for (const uint64_t pair : regions.neighbors)
      push(static_cast<int32_t>(pair >> 32), static_cast<int32_t>(pair));
  }

  Hierarchy run() {
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), Later());
      const Pair pair = queue_.back();
      queue_.pop_back();
      if (alive(pair)) join(pair.a, pair.b);
    }
    return std::move(tree_);
  }

 private:
  // Fills the shares of a node from its counts.
  void share(int32_t node) {
    const size_t row = size_t(slot_[node]) * regions_.stride;
    if (begin_ < end_)
      loops_.normalize(histograms_.data() + row + begin_,
                       static_cast<float>(kUnit) / static_cast<float>(sizes_[slot_[node]]),
                       end_ - begin_, shares_.data() + row + begin_);
  }

  // Equations 2 to 5, summed (equation 6).
  double similarity(int32_t a, int32_t b) const {
    const size_t row_a = size_t(slot_[a]) * regions_.stride,
                 row_b = size_t(slot_[b]) * regions_.stride;
    const int texture = regions_.texture_begin();
    double sum = 0;
    if (similarity_ & kColor)
      sum += loops_.intersection(shares_.data() + row_a, shares_.data() + row_b, texture) /
             (double{kUnit} * (regions_.color_bins / kColorBins));
    if (similarity_ & kTexture)
      sum += loops_.intersection(shares_.data() + row_a + texture, shares_.data() + row_b + texture,
                                 regions_.stride - texture) /
             (double{kUnit} * (regions_.texture_bins / kTextureBins));
    const double size = static_cast<double>(sizes_[slot_[a]]) + sizes_[slot_[b]];
    if (similarity_ & kSize) sum += 1 - size / image_size_;
    if (similarity_ & kFill) {
      const Box box = hull(tree_.boxes[a], tree_.boxes[b]);
      const double area = static_cast<double>(box.x2 - box.x1) * (box.y2 - box.y1);
      sum += 1 - (area - size) / image_size_;
    }
    return sum;
  }

  static Box hull(const Box& a, const Box& b) {
    return {std::min(a.x1, b.x1), std::min(a.y1, b.y1), std::max(a.x2, b.x2), std::max(a.y2, b.y2)};
  }

  bool alive(const Pair& pair) const { return slot_[pair.a] >= 0 && slot_[pair.b] >= 0; }

  void push(int32_t a, int32_t b) {
    queue_.push_back({similarity(a, b), a, b});
    std::push_heap(queue_.begin(), queue_.end(), Later());
  }

  // Pairs of nodes that are gone stay in the queue until they surface. Where one region meets
  // thousands they would pile up, a thousand with every merge.
  void sweep() {
    if (queue_.size() < queue_limit_) return;
    std::erase_if(queue_, [&](const Pair& pair) { return !alive(pair); });
    std::make_heap(queue_.begin(), queue_.end(), Later());
    queue_limit_ = 2 * queue_.size() + 1024;
  }

  // The new node takes a's place in the tables.
  void join(int32_t a, int32_t b) {
    const int32_t slot = slot_[a], other = slot_[b];
    const auto node = static_cast<int32_t>(tree_.boxes.size());
    tree_.children.insert(tree_.children.end(), {a, b});
    tree_.boxes.push_back(hull(tree_.boxes[a], tree_.boxes[b]));
    slot_[a] = slot_[b] = -1;
    slot_[node] = slot;
    sizes_[slot] += sizes_[other];
    int32_t* counts = histograms_.data() + size_t(slot) * regions_.stride;
    const int32_t* added = histograms_.data() + size_t(other) * regions_.stride;
    for (int i = begin_; i < end_; ++i) counts[i] += added[i];
    share(node);

    std::vector<int32_t> around;
    std::set_union(neighbors_[slot].begin(), neighbors_[slot].end(), neighbors_[other].begin(),
                   neighbors_[other].end(), std::back_inserter(around));
    std::erase_if(around, [&](int32_t n) { return n == a || n == b; });
    for (const int32_t n : around) {
      std::vector<int32_t>& theirs = neighbors_[slot_[n]];
      std::erase_if(theirs, [&](int32_t m) { return m == a || m == b; });
      theirs.push_back(node);  // the largest number yet: still sorted
      push(n, node);
    }
    sweep();
    neighbors_[slot] = std::move(around);
    neighbors_[other] = {};
  }

  const SelectiveSearchLoops& loops_ = LABELPENET_PICK(kSelectiveSearchLoops);
  const BaseRegions& regions_;
  const int similarity_;
  const int begin_, end_;  // the part of the histograms that this similarity looks at
  double image_size_ = 0;
  std::vector<int32_t> histograms_;
  std::vector<int16_t> shares_;
  std::vector<int32_t> slot_;  // [nodes] row of a live node in the tables, -1 for one that is gone
  std::vector<int32_t> sizes_;
  std::vector<std::vector<int32_t>> neighbors_;  // nodes, ascending
  std::vector<Pair> queue_;                      // a heap
  size_t queue_limit_ = 1024;
  Hierarchy tree_;
};

}  // namespace

Hierarchy group_regions(const BaseRegions& regions, int similarity) {
  return Grouping(regions, similarity).run();
}

}  // namespace labelpenet
