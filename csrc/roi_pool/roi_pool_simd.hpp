// The inner loops of the float CPU path, compiled once per instruction set.
//
// They work on a tile: the cells of a window of one image, each with kTileLanes channels next to
// each other, so that one vector operation serves all channels of a cell.
#pragma once
#include <cstdint>

#include "core/simd.hpp"
#include "roi_pool/roi_pool_math.hpp"

namespace labelpenet {

constexpr int kTileLanes = 16;  // one AVX-512 register; a tile of 75 x 100 cells is 480 KB

// The bins of one box: rows[ph] x columns[pw].
struct RoiBins {
  const Span* rows;
  const Span* columns;
  int pooled_height;
  int pooled_width;
};

// A window of `height` x `width` cells whose first cell is (top, left) of the image.
struct RoiTile {
  float* value;    // [height, width, kTileLanes], 64-byte aligned
  int32_t* index;  // same shape: cell of the image that value came from, or null
  int top;
  int left;
  int height;
  int width;
};

struct RoiPoolLoops {
  // Fills the tile from `lanes` channel planes of an image of `image_width` cells a row.
  void (*load)(const float* planes, int64_t plane_stride, int lanes, int image_width,
               const RoiTile& tile);
  // value[y][x] = max(value[y][x], value[y][x + step]), the left one where they tie.
  void (*widen)(const RoiTile& tile, int step);
  // Pools one box from a tile whose cell x already holds the maximum of cells [x, x + step).
  // Writes `lanes` channels of pooled and argmax; past the caches where asked, which needs all
  // kTileLanes channels and 64-byte alignment. `scratch`: 3 * bins * kTileLanes floats, aligned.
  void (*pool)(const RoiTile& tile, int step, const RoiBins& bins, int lanes, bool past_caches,
               float* scratch, float* pooled, int32_t* argmax);
  // Called by each thread after its last pool().
  void (*finish)();
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(RoiPoolLoops, kRoiPoolLoops)
