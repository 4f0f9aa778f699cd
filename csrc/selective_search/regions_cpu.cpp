// Masks of tree nodes as run lengths, without ever painting a mask.
#include <algorithm>

#include "selective_search/stages.hpp"

namespace labelpenet {

LeafIntervals leaf_intervals(const Hierarchy& tree) {
  const int nodes = 2 * tree.leaves - 1;
  LeafIntervals out{std::vector<int32_t>(tree.leaves), std::vector<int32_t>(nodes),
                    std::vector<int32_t>(nodes)};
  std::vector<int32_t>& size = out.last;  // leaves below a node, then where they end
  for (int n = 0; n < nodes; ++n) {
    const int32_t* pair = n < tree.leaves ? nullptr : &tree.children[2 * (n - tree.leaves)];
    size[n] = pair ? size[pair[0]] + size[pair[1]] : 1;
  }
  for (int n = nodes - 1; n >= tree.leaves; --n) {  // a parent comes after its children
    const int32_t* pair = &tree.children[2 * (n - tree.leaves)];
    out.first[pair[0]] = out.first[n];
    out.first[pair[1]] = out.first[n] + size[pair[0]];
  }
  for (int n = 0; n < nodes; ++n) out.last[n] += out.first[n];
  for (int n = 0; n < tree.leaves; ++n) out.rank[n] = out.first[n];
  return out;
}

ColumnRuns column_runs(const int32_t* labels, int height, int width) {
  ColumnRuns runs;
  runs.begin.reserve(width + 1);
  for (int x = 0; x < width; ++x) {
    runs.begin.push_back(static_cast<int64_t>(runs.label.size()));
    for (int y = 0; y < height;) {
      const int start = y;
      const int32_t label = labels[int64_t{y} * width + x];
      while (y < height && labels[int64_t{y} * width + x] == label) ++y;
      runs.label.push_back(label);
      runs.length.push_back(y - start);
    }
  }
  runs.begin.push_back(static_cast<int64_t>(runs.label.size()));
  return runs;
}

void append_counts(const ColumnRuns& runs, const LeafIntervals& intervals, int node, const Box& box,
                   int height, int width, std::vector<int32_t>& counts) {
  const int32_t first = intervals.first[node], last = intervals.last[node];
  int32_t length = box.x1 * height;  // of the run so far
  bool inside = false;
  for (int64_t i = runs.begin[box.x1]; i < runs.begin[box.x2]; ++i) {
    const int32_t rank = intervals.rank[runs.label[i]];
    if ((rank >= first && rank < last) != inside) {
      counts.push_back(length);
      length = 0;
      inside = !inside;
    }
    length += runs.length[i];
  }
  const int32_t after = (width - box.x2) * height;
  if (inside) {
    counts.push_back(length);
    length = 0;
  }
  if (length + after > 0) counts.push_back(length + after);
}

}  // namespace labelpenet
