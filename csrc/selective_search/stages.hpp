// The stages of selective search, each a function of the one before.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "selective_search/selective_search.hpp"

namespace labelpenet {

// An image in one color space, a plane per channel.
struct Planes {
  int channels = 0;  // 1 or 3
  int height = 0;
  int width = 0;
  std::vector<uint8_t> data;  // [channels, height, width]

  int64_t pixels() const { return int64_t{height} * width; }
  const uint8_t* row(int channel, int y) const {
    return data.data() + (int64_t{channel} * height + y) * width;
  }
};

int color_channels(ColorSpace space);
// image: [height, width, 3] RGB. Fills planes.data.
Planes convert_color(const uint8_t* image, int height, int width, ColorSpace space);

// ---- base segmentation -------------------------------------------------------------------------

// The four neighbours that make the 8-connected grid's edges, each edge once.
constexpr int kEdgeDirections = 4;
constexpr int kEdgeDx[kEdgeDirections] = {1, -1, 0, 1};
constexpr int kEdgeDy[kEdgeDirections] = {0, 1, 1, 1};
constexpr int kEdgePixelBits = 30;  // the rest of an edge is its direction
constexpr int64_t kMaxPixels = int64_t{1} << 28;
// Edge weights are color distances in 1/128 of a grey level, up to 128 * 255 * sqrt(3) < 2^16. As
// fine as that, because a region of many pixels grows by edges that are hardly heavier than its
// own.
constexpr int kWeightScale = 128;

// Edges by weight; equal weights by direction, then by pixel in reading order.
struct SortedEdges {
  int height = 0;
  int width = 0;
  std::vector<uint32_t> edges;    // direction << kEdgePixelBits | pixel
  std::vector<uint16_t> weights;  // of these edges
};

SortedEdges sort_edges(const Planes& planes);

// Labels 0, 1, ... in reading order of the regions' first pixels; returns how many.
// labels: [height, width], written.
int segment_graph(const SortedEdges& edges, float k, int min_size, int32_t* labels);

// ---- features of the base regions --------------------------------------------------------------

constexpr int kColorBins = 25;    // per channel
constexpr int kTextureBins = 10;  // per channel and orientation
constexpr int kOrientations = 8;  // four directions, rising and falling
constexpr int kTextureDirections = kOrientations / 2;

// Which texture bins a pixel falls into: [channels, height, width], direction d in byte d. A rising
// derivative of bin b is b, a falling one kTextureBins + b, one that rounds to zero 0.
std::vector<uint32_t> texture_slots(const Planes& planes);

struct Box {
  int32_t x1, y1, x2, y2;  // x2, y2 exclusive
};

struct BaseRegions {
  int count = 0;
  int color_bins = 0;               // channels * kColorBins
  int texture_bins = 0;             // channels * kOrientations * kTextureBins
  int stride = 0;                   // of a row of histograms: color, zeros, texture, zeros
  std::vector<int32_t> sizes;       // [count]
  std::vector<Box> boxes;           // [count]
  std::vector<int32_t> histograms;  // [count, stride]
  std::vector<uint64_t> neighbors;  // pairs a << 32 | b, a < b, sorted

  int texture_begin() const { return padded(color_bins); }
  // Rows are made of whole vectors.
  static int padded(int bins) { return (bins + 31) / 32 * 32; }
};

BaseRegions describe_regions(const Planes& planes, const std::vector<uint32_t>& slots,
                             const int32_t* labels, int count);

// ---- grouping ----------------------------------------------------------------------------------

// A binary tree over the base regions: nodes [0, leaves) are they, node leaves + i is merge i.
struct Hierarchy {
  int leaves = 0;
  std::vector<int32_t> children;  // [leaves - 1, 2]
  std::vector<Box> boxes;         // [2 * leaves - 1]
};

Hierarchy group_regions(const BaseRegions& regions, int similarity);

// ---- ranking -----------------------------------------------------------------------------------

struct Candidate {
  double rank;  // a node's place counted from the top of its tree times a random number in [0, 1)
  int32_t hierarchy, node;
};

// The nodes whose boxes have no side below min_side, best (lowest) rank first (section 4.2.3 of the
// paper). Of equal boxes the best stays.
std::vector<Candidate> rank_nodes(const std::vector<Hierarchy>& trees, int min_side, uint64_t seed);

// ---- regions as runs ---------------------------------------------------------------------------

// The leaves below any node of a tree are neighbours in depth-first order.
struct LeafIntervals {
  std::vector<int32_t> rank;         // [leaves] a leaf's place in depth-first order
  std::vector<int32_t> first, last;  // [nodes] the ranks below a node, last exclusive
};
LeafIntervals leaf_intervals(const Hierarchy& hierarchy);

// Runs of equal labels along the columns of a label map.
struct ColumnRuns {
  std::vector<int64_t> begin;   // [width + 1] a column's first run
  std::vector<int32_t> label;   // [runs]
  std::vector<int32_t> length;  // [runs]
};
ColumnRuns column_runs(const int32_t* labels, int height, int width);

// Appends the mask of `node`, whose box is `box`, as column-major run lengths.
void append_counts(const ColumnRuns& runs, const LeafIntervals& intervals, int node, const Box& box,
                   int height, int width, std::vector<int32_t>& counts);

}  // namespace labelpenet
