// Base segmentation (Felzenszwalb and Huttenlocher 2004): sorted edges, then one pass of merging.
#include <algorithm>
#include <utility>
#include <vector>

#include "selective_search/selective_search_simd.hpp"
#include "selective_search/stages.hpp"

namespace labelpenet {
namespace {

// Planes blurred with sigma 0.8, in 1/256 levels.
std::vector<uint16_t> blur(const Planes& planes, const SelectiveSearchLoops& loops) {
  const int height = planes.height, width = planes.width;
  std::vector<uint16_t> out(planes.channels * planes.pixels());
  std::vector<uint16_t> line(width + 2 * kFilterRadius);
  for (int c = 0; c < planes.channels; ++c) {
    for (int y = 0; y < height; ++y) {
      const uint8_t* rows[kFilterTaps];
      for (int i = 0; i < kFilterTaps; ++i)
        rows[i] = planes.row(c, std::clamp(y + i - kFilterRadius, 0, height - 1));
      uint16_t* inner = line.data() + kFilterRadius;
      loops.blur_columns(rows, width, inner);
      std::fill_n(line.data(), kFilterRadius, inner[0]);
      std::fill_n(inner + width, kFilterRadius, inner[width - 1]);
      loops.blur_row(line.data(), width, out.data() + c * planes.pixels() + int64_t{y} * width);
    }
  }
  return out;
}

struct Component {
  int32_t size;
  float threshold;  // Int(C) + k / |C|: the largest edge that may still join it
};

class Forest {
 public:
  Forest(int64_t n, float k) : k_(k), parent_(n), components_(n, Component{1, k}) {
    for (int64_t i = 0; i < n; ++i) parent_[i] = static_cast<int32_t>(i);
  }
  int32_t find(int32_t i) {
    while (parent_[i] != i) {
      parent_[i] = parent_[parent_[i]];  // halves the path
      i = parent_[i];
    }
    return i;
  }
  // Halves the first step of a path; a root, or nearer to it.
  int32_t lift(int32_t i) { return parent_[i] = parent_[parent_[i]]; }
  void prefetch(int32_t i) const { __builtin_prefetch(&components_[i]); }
  const Component& at(int32_t root) const { return components_[root]; }
  // Joins two roots by an edge of weight w, the larger one above.
  void join(int32_t a, int32_t b, float w) {
    if (components_[a].size < components_[b].size) std::swap(a, b);
    parent_[b] = a;
    components_[a].size += components_[b].size;
    components_[a].threshold = w + k_ / static_cast<float>(components_[a].size);
  }

 private:
  float k_;
  std::vector<int32_t> parent_;
  std::vector<Component> components_;
};

}  // namespace

SortedEdges sort_edges(const Planes& planes) {
  const SelectiveSearchLoops& loops = LABELPENET_PICK(kSelectiveSearchLoops);
  const int height = planes.height, width = planes.width;
  const int64_t pixels = planes.pixels();
  const std::vector<uint16_t> smooth = blur(planes, loops);

  std::vector<uint16_t> weights(kEdgeDirections * pixels);
  const auto columns = [&](int d) {  // whose neighbour lies in the image
    return std::pair{kEdgeDx[d] < 0 ? 1 : 0, kEdgeDx[d] > 0 ? width - 1 : width};
  };
  for (int d = 0; d < kEdgeDirections; ++d) {
    const auto [x1, x2] = columns(d);
    for (int y = 0; y + kEdgeDy[d] < height && x1 < x2; ++y) {
      const uint16_t *a[3] = {}, *b[3] = {};
      const int64_t from = int64_t{y} * width + x1;
      for (int c = 0; c < planes.channels; ++c) {
        a[c] = smooth.data() + c * pixels + from;
        b[c] = a[c] + int64_t{kEdgeDy[d]} * width + kEdgeDx[d];
      }
      loops.distances(a, b, planes.channels, x2 - x1, weights.data() + d * pixels + from);
    }
  }

  // Radix sort: by the low byte of the weights, then by the high byte; both passes keep order.
  const auto each_edge = [&](const auto& visit) {
    for (int d = 0; d < kEdgeDirections; ++d) {
      const auto [x1, x2] = columns(d);
      for (int y = 0; y + kEdgeDy[d] < height; ++y)
        for (int x = x1; x < x2; ++x) {
          const int64_t pixel = int64_t{y} * width + x;
          visit(weights[d * pixels + pixel], static_cast<uint32_t>(d) << kEdgePixelBits | pixel);
        }
    }
  };
  uint32_t low[256] = {}, high[256] = {};
  each_edge([&](uint16_t weight, uint32_t) {
    ++low[weight & 255];
    ++high[weight >> 8];
  });
  uint32_t low_sum = 0, high_sum = 0;
  for (int i = 0; i < 256; ++i) {
    low_sum += std::exchange(low[i], low_sum);
    high_sum += std::exchange(high[i], high_sum);
  }
  std::vector<uint64_t> by_low(low_sum);
  each_edge([&](uint16_t weight, uint32_t edge) {
    by_low[low[weight & 255]++] = uint64_t{weight} << 32 | edge;
  });
  SortedEdges sorted{height, width, std::vector<uint32_t>(low_sum), std::vector<uint16_t>(low_sum)};
  for (const uint64_t item : by_low) {
    const uint32_t place = high[item >> 40]++;
    sorted.edges[place] = static_cast<uint32_t>(item);
    sorted.weights[place] = static_cast<uint16_t>(item >> 32);
  }
  return sorted;
}

int segment_graph(const SortedEdges& sorted, float k, int min_size, int32_t* labels) {
  const int64_t pixels = int64_t{sorted.height} * sorted.width;
  int32_t step[kEdgeDirections];
  for (int d = 0; d < kEdgeDirections; ++d) step[d] = kEdgeDy[d] * sorted.width + kEdgeDx[d];
  const auto ends = [&](uint32_t edge) {
    const auto pixel = static_cast<int32_t>(edge & ((1u << kEdgePixelBits) - 1));
    return std::pair{pixel, pixel + step[edge >> kEdgePixelBits]};
  };

  Forest forest(pixels, k * kWeightScale);
  // An edge within a component stays within it: only the refused ones can matter below.
  std::vector<uint32_t> refused;
  // Most edges lie within a component. In every batch these are dropped first, by a loop without
  // branches; it also shortens paths and fetches what the loop after it, which no branch predictor
  // can follow, will want. Together this halves the time.
  constexpr size_t kBatch = 256;
  struct {
    uint32_t place;
    int32_t a, b;
  } open[kBatch];
  for (size_t first = 0; first < sorted.edges.size(); first += kBatch) {
    const size_t last = std::min(first + kBatch, sorted.edges.size());
    size_t count = 0;
    for (size_t i = first; i < last; ++i) {
      const auto [p, q] = ends(sorted.edges[i]);
      const int32_t a = forest.lift(p), b = forest.lift(q);
      forest.prefetch(a);
      forest.prefetch(b);
      open[count] = {static_cast<uint32_t>(i), a, b};
      count += a != b;
    }
    for (size_t i = 0; i < count; ++i) {
      const int32_t a = forest.find(open[i].a), b = forest.find(open[i].b);
      const float weight = sorted.weights[open[i].place];
      if (a == b) continue;
      if (weight <= std::min(forest.at(a).threshold, forest.at(b).threshold))
        forest.join(a, b, weight);
      else
        refused.push_back(sorted.edges[open[i].place]);
    }
  }
  for (const uint32_t edge : refused) {
    const auto [p, q] = ends(edge);
    const int32_t a = forest.find(p), b = forest.find(q);
    if (a != b && std::min(forest.at(a).size, forest.at(b).size) < min_size) forest.join(a, b, 0);
  }

  int count = 0;
  std::vector<int32_t> label_of(pixels, -1);
  for (int64_t i = 0; i < pixels; ++i) {
    int32_t& label = label_of[forest.find(static_cast<int32_t>(i))];
    if (label < 0) label = count++;
    labels[i] = label;
  }
  return count;
}

}  // namespace labelpenet
