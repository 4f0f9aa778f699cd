// Selective search: object proposals from a hierarchy of merged regions. CPU only.
//
// Source: Uijlings, van de Sande, Gevers, Smeulders, "Selective Search for Object Recognition",
// IJCV 2013; the base segmentation is Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image
// Segmentation", IJCV 2004. Everything that decides an order is an integer or one correctly rounded
// floating point operation, so that the result is the same on every machine and thread count.
#pragma once
#include <cstdint>
#include <vector>

namespace labelpenet {

// Order known to labelpenet/ops/selective_search.py.
enum class ColorSpace : int { kHsv, kLab, kRgi, kHue, kIntensity };

// Terms of the similarity of two regions (section 3.2, equation 6); a set is their sum of bits.
enum Similarity : int { kColor = 1, kTexture = 2, kSize = 4, kFill = 8 };

struct SelectiveSearchArgs {
  const uint8_t* image = nullptr;  // [height, width, 3] RGB, read
  int height = 0;
  int width = 0;
  // One hierarchy for every color space x k x similarity set, in that nesting.
  std::vector<ColorSpace> color_spaces;
  std::vector<float> ks;          // preference for large base regions, in grey levels x pixels
  std::vector<int> similarities;  // sets of Similarity
  int min_size = 0;               // of a base region, in pixels
  int min_side = 0;               // of a returned box, in pixels
  uint64_t seed = 0;              // of the ranks
  bool regions = false;           // whether counts and offsets are wanted
};

struct Proposals {
  std::vector<float> boxes;      // [R, 4] x1, y1, x2, y2; best rank first, no box twice
  std::vector<int32_t> counts;   // runs of all masks, column-major, from a run of zeros on (COCO)
  std::vector<int64_t> offsets;  // [R + 1] where a mask's runs begin; empty without regions
};

Proposals selective_search_cpu(const SelectiveSearchArgs& args, int threads);

}  // namespace labelpenet
