// Selective search from the image to ranked boxes: which stages run, in parallel, and the ranking.
#include <algorithm>
#include <exception>
#include <mutex>
#include <numeric>
#include <unordered_set>

#include "core/parallel.hpp"
#include "selective_search/stages.hpp"

namespace labelpenet {
namespace {

// Runs task(0) to task(n - 1), in any order; an exception (no memory) reaches the caller.
template <class Task>
void run_tasks(int64_t n, int threads, const Task& task) {
  std::exception_ptr failure;
  std::mutex mutex;
  parallel_for(n, 1, threads, [&](int64_t begin, int64_t end, int) {
    try {
      for (int64_t i = begin; i < end; ++i) task(static_cast<int>(i));
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

// splitmix64 (Steele, Lea, Flood 2014): a number that depends on all three and on nothing else.
uint64_t mix(uint64_t seed, uint64_t hierarchy, uint64_t node) {
  uint64_t z = seed + 0x9e3779b97f4a7c15u * (hierarchy + 1);
  for (int round = 0; round < 2; ++round) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    z += 0x9e3779b97f4a7c15u * (node + 1);
  }
  return z ^ (z >> 31);
}

struct Candidate {
  double rank;
  int32_t hierarchy, node;
};

// A node's place counted from the top of its hierarchy times a random number (section 4.2.3).
void rank_nodes(const Hierarchy& tree, const SelectiveSearchArgs& args, int hierarchy,
                std::vector<Candidate>& out) {
  const int nodes = static_cast<int>(tree.boxes.size());
  for (int n = 0; n < nodes; ++n) {
    const Box& box = tree.boxes[n];
    if (box.x2 - box.x1 < args.min_side || box.y2 - box.y1 < args.min_side) continue;
    const double random = static_cast<double>(mix(args.seed, hierarchy, n) >> 11) * 0x1p-53;
    out.push_back({(nodes - n) * random, hierarchy, n});
  }
}

struct BoxHash {
  size_t operator()(const Box& box) const {
    return mix(static_cast<uint64_t>(box.x1) << 32 | static_cast<uint32_t>(box.y1), box.x2, box.y2);
  }
};
struct BoxEqual {
  bool operator()(const Box& a, const Box& b) const {
    return a.x1 == b.x1 && a.y1 == b.y1 && a.x2 == b.x2 && a.y2 == b.y2;
  }
};

std::vector<Candidate> best_without_repeats(std::vector<Candidate> all,
                                            const std::vector<Hierarchy>& trees) {
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    if (a.rank != b.rank) return a.rank < b.rank;
    return a.hierarchy != b.hierarchy ? a.hierarchy < b.hierarchy : a.node < b.node;
  });
  std::unordered_set<Box, BoxHash, BoxEqual> seen;
  std::erase_if(all, [&](const Candidate& candidate) {
    return !seen.insert(trees[candidate.hierarchy].boxes[candidate.node]).second;
  });
  return all;
}

}  // namespace

Proposals selective_search_cpu(const SelectiveSearchArgs& args, int threads) {
  const int height = args.height, width = args.width;
  const int spaces = static_cast<int>(args.color_spaces.size());
  const int ks = static_cast<int>(args.ks.size());
  const int sets = static_cast<int>(args.similarities.size());

  std::vector<Planes> planes(spaces);
  run_tasks(spaces, threads, [&](int i) {
    planes[i] = convert_color(args.image, height, width, args.color_spaces[i]);
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
  std::vector<ColumnRuns> runs(args.regions ? spaces * ks : 0);
  run_tasks(spaces * ks, threads, [&](int i) {
    const int space = i / ks;
    std::vector<int32_t> labels(planes[space].pixels());
    const int count = segment_graph(edges[space], args.ks[i % ks], args.min_size, labels.data());
    bases[i] = describe_regions(planes[space], slots[space], labels.data(), count);
    if (args.regions) runs[i] = column_runs(labels.data(), height, width);
  });

  std::vector<Hierarchy> trees(spaces * ks * sets);
  run_tasks(static_cast<int64_t>(trees.size()), threads,
            [&](int i) { trees[i] = group_regions(bases[i / sets], args.similarities[i % sets]); });

  std::vector<Candidate> chosen;
  for (size_t i = 0; i < trees.size(); ++i) rank_nodes(trees[i], args, static_cast<int>(i), chosen);
  chosen = best_without_repeats(std::move(chosen), trees);

  Proposals out;
  out.boxes.reserve(4 * chosen.size());
  for (const Candidate& candidate : chosen) {
    const Box& box = trees[candidate.hierarchy].boxes[candidate.node];
    for (const int32_t v : {box.x1, box.y1, box.x2, box.y2})
      out.boxes.push_back(static_cast<float>(v));
  }
  if (!args.regions) return out;

  std::vector<LeafIntervals> intervals(trees.size());
  run_tasks(static_cast<int64_t>(trees.size()), threads,
            [&](int i) { intervals[i] = leaf_intervals(trees[i]); });
  out.offsets.resize(chosen.size() + 1);
  constexpr size_t kChunk = 64;  // regions of a task
  std::vector<std::vector<int32_t>> chunks((chosen.size() + kChunk - 1) / kChunk);
  run_tasks(static_cast<int64_t>(chunks.size()), threads, [&](int chunk) {
    const size_t first = chunk * kChunk, last = std::min(first + kChunk, chosen.size());
    for (size_t i = first; i < last; ++i) {
      const auto [rank, h, node] = chosen[i];
      const size_t before = chunks[chunk].size();
      append_counts(runs[h / sets], intervals[h], node, trees[h].boxes[node], height, width,
                    chunks[chunk]);
      out.offsets[i + 1] = static_cast<int64_t>(chunks[chunk].size() - before);
    }
  });
  std::partial_sum(out.offsets.begin(), out.offsets.end(), out.offsets.begin());
  out.counts.reserve(out.offsets.back());
  for (const std::vector<int32_t>& chunk : chunks)
    out.counts.insert(out.counts.end(), chunk.begin(), chunk.end());
  return out;
}

}  // namespace labelpenet
