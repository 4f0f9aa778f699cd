// One list out of many hierarchies, the large and the lucky first.
#include <algorithm>
#include <unordered_set>

#include "selective_search/stages.hpp"

namespace labelpenet {
namespace {

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

}  // namespace

std::vector<Candidate> rank_nodes(const std::vector<Hierarchy>& trees, int min_side,
                                  uint64_t seed) {
  std::vector<Candidate> ranked;
  for (size_t h = 0; h < trees.size(); ++h) {
    const int nodes = static_cast<int>(trees[h].boxes.size());
    for (int n = 0; n < nodes; ++n) {
      const Box& box = trees[h].boxes[n];
      if (box.x2 - box.x1 < min_side || box.y2 - box.y1 < min_side) continue;
      const double random = static_cast<double>(mix(seed, h, n) >> 11) * 0x1p-53;
      ranked.push_back({(nodes - n) * random, static_cast<int32_t>(h), n});
    }
  }
  std::sort(ranked.begin(), ranked.end(), [](const Candidate& a, const Candidate& b) {
    if (a.rank != b.rank) return a.rank < b.rank;
    return a.hierarchy != b.hierarchy ? a.hierarchy < b.hierarchy : a.node < b.node;
  });
  std::unordered_set<Box, BoxHash, BoxEqual> seen;
  std::erase_if(ranked, [&](const Candidate& candidate) {
    return !seen.insert(trees[candidate.hierarchy].boxes[candidate.node]).second;
  });
  return ranked;
}

}  // namespace labelpenet
