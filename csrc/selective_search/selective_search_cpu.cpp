// Selective search from the image to ranked boxes: which stages run on what, in parallel.
#include <algorithm>
#include <numeric>

#include "core/parallel.hpp"
#include "selective_search/stages.hpp"

namespace labelpenet {
namespace {

// Runs task(0) to task(n - 1), in any order.
template <class Task>
void run_tasks(int64_t n, int threads, const Task& task) {
  parallel_for(n, 1, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) task(static_cast<int>(i));
  });
}

// What the search keeps of its color spaces.
struct Forests {
  std::vector<Hierarchy> trees;  // [spaces, ks, sets]
  std::vector<ColumnRuns> runs;  // [spaces, ks], empty without regions
};

// Runs the color spaces [first, last) up to their hierarchies.
void grow(const SelectiveSearchArgs& args, int first, int last, int threads, Forests& out) {
  const int spaces = last - first;
  const int ks = static_cast<int>(args.ks.size());
  const int sets = static_cast<int>(args.similarities.size());

  std::vector<Planes> planes(spaces);
  run_tasks(spaces, threads, [&](int i) {
    planes[i] = convert_color(args.image, args.height, args.width, args.color_spaces[first + i]);
  });
  std::vector<SortedEdges> edges(spaces);
  std::vector<std::vector<uint32_t>> slots(spaces);
  run_tasks(2 * spaces, threads, [&](int i) {
    if (i < spaces)
      edges[i] = sort_edges(planes[i]);
    else
      slots[i - spaces] = texture_slots(planes[i - spaces]);
  });

  std::vector<BaseRegions> bases(spaces * ks);
  run_tasks(spaces * ks, threads, [&](int i) {
    const int space = i / ks;
    std::vector<int32_t> labels(planes[space].pixels());
    const int count = segment_graph(edges[space], args.ks[i % ks], args.min_size, labels.data());
    bases[i] = describe_regions(planes[space], slots[space], labels.data(), count);
    if (args.regions)
      out.runs[first * ks + i] = column_runs(labels.data(), args.height, args.width);
  });
  run_tasks(int64_t{spaces} * ks * sets, threads, [&](int i) {
    out.trees[first * ks * sets + i] = group_regions(bases[i / sets], args.similarities[i % sets]);
  });
}

// The masks of the chosen nodes.
void encode(const SelectiveSearchArgs& args, const Forests& forests,
            const std::vector<Candidate>& chosen, int threads, Proposals& out) {
  const size_t sets = args.similarities.size();
  std::vector<LeafIntervals> intervals(forests.trees.size());
  run_tasks(static_cast<int64_t>(intervals.size()), threads,
            [&](int i) { intervals[i] = leaf_intervals(forests.trees[i]); });

  constexpr size_t kChunk = 64;  // regions of a task
  std::vector<std::vector<int32_t>> chunks((chosen.size() + kChunk - 1) / kChunk);
  out.offsets.resize(chosen.size() + 1);
  run_tasks(static_cast<int64_t>(chunks.size()), threads, [&](int c) {
    std::vector<int32_t>& counts = chunks[c];
    const size_t first = c * kChunk, last = std::min(first + kChunk, chosen.size());
    for (size_t i = first; i < last; ++i) {
      const auto [rank, h, node] = chosen[i];
      const size_t before = counts.size();
      append_counts(forests.runs[h / sets], intervals[h], node, forests.trees[h].boxes[node],
                    args.height, args.width, counts);
      out.offsets[i + 1] = static_cast<int64_t>(counts.size() - before);
    }
  });
  std::partial_sum(out.offsets.begin(), out.offsets.end(), out.offsets.begin());
  out.counts.reserve(out.offsets.back());
  for (const std::vector<int32_t>& counts : chunks)
    out.counts.insert(out.counts.end(), counts.begin(), counts.end());
}

}  // namespace

Proposals selective_search_cpu(const SelectiveSearchArgs& args, int threads) {
  const int spaces = static_cast<int>(args.color_spaces.size());
  const size_t bases = spaces * args.ks.size();
  Forests forests;
  forests.trees.resize(bases * args.similarities.size());
  forests.runs.resize(args.regions ? bases : 0);
  // All color spaces side by side use threads best; of a large image fewer fit into memory (about
  // 100 bytes for a pixel of each).
  const int64_t pixels = int64_t{args.height} * args.width;
  const int batch = static_cast<int>(std::clamp<int64_t>((int64_t{1} << 22) / pixels, 1, spaces));
  for (int first = 0; first < spaces; first += batch)
    grow(args, first, std::min(first + batch, spaces), threads, forests);

  const std::vector<Candidate> chosen = rank_nodes(forests.trees, args.min_side, args.seed);
  Proposals out;
  out.boxes.reserve(4 * chosen.size());
  for (const Candidate& candidate : chosen) {
    const Box& box = forests.trees[candidate.hierarchy].boxes[candidate.node];
    for (const int32_t v : {box.x1, box.y1, box.x2, box.y2})
      out.boxes.push_back(static_cast<float>(v));
  }
  if (args.regions) encode(args, forests, chosen, threads, out);
  return out;
}

}  // namespace labelpenet
