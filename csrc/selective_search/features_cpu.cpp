// What the grouping knows of a base region: size, box, color and texture histograms, neighbours.
#include <algorithm>

#include "selective_search/selective_search_simd.hpp"
#include "selective_search/stages.hpp"

namespace labelpenet {
namespace {

constexpr int kSlots = 2 * kTextureBins;  // of one direction: rising bins, falling bins

void count_pixels(const Planes& planes, const std::vector<uint32_t>& slots, const int32_t* labels,
                  BaseRegions& regions) {
  const int64_t pixels = planes.pixels();
  const size_t stride = regions.stride;
  for (int c = 0; c < planes.channels; ++c) {
    const uint8_t* values = planes.row(c, 0);
    const uint32_t* slot = slots.data() + c * pixels;
    int32_t* color = regions.histograms.data() + c * kColorBins;
    int32_t* texture =
        regions.histograms.data() + regions.texture_begin() + c * kTextureDirections * kSlots;
    for (int64_t i = 0; i < pixels; ++i) {
      const size_t row = labels[i] * stride;
      ++color[row + (values[i] * kColorBins >> 8)];
      if (slot[i] == 0) continue;  // flat, as most pixels are; count_zero_bins knows them
      for (int d = 0; d < kTextureDirections; ++d)
        ++texture[row + d * kSlots + (slot[i] >> 8 * d & 255)];
    }
  }
}

// A pixel that rises does not fall: it belongs into bin 0 of the opposite orientation.
void count_zero_bins(BaseRegions& regions) {
  for (int r = 0; r < regions.count; ++r) {
    int32_t* texture =
        regions.histograms.data() + size_t(r) * regions.stride + regions.texture_begin();
    for (int first = 0; first < regions.texture_bins; first += kTextureBins) {
      int32_t others = 0;
      for (int b = 1; b < kTextureBins; ++b) others += texture[first + b];
      texture[first] = regions.sizes[r] - others;
    }
  }
}

void find_boxes(const int32_t* labels, int height, int width, BaseRegions& regions) {
  for (int y = 0; y < height; ++y) {
    const int32_t* row = labels + int64_t{y} * width;
    for (int x = 0; x < width;) {  // a run of one label at a time
      const int begin = x;
      const int32_t label = row[x];
      while (x < width && row[x] == label) ++x;
      Box& box = regions.boxes[label];
      box.x1 = std::min(box.x1, begin);
      box.x2 = std::max(box.x2, x);
      box.y1 = std::min(box.y1, y);
      box.y2 = y + 1;
      regions.sizes[label] += x - begin;
    }
  }
}

// Pairs of labels that share a pixel's side. (Sides, not corners: they alone connect the image.)
std::vector<uint64_t> find_neighbors(const int32_t* labels, int height, int width) {
  std::vector<uint64_t> pairs;
  uint64_t last = 0;  // borders are long: the same pair comes many times in a row
  const auto add = [&](int32_t a, int32_t b) {
    const uint64_t pair = static_cast<uint64_t>(std::min(a, b)) << 32 | std::max(a, b);
    if (pair != last) pairs.push_back(last = pair);
  };
  for (int y = 0; y < height; ++y) {
    const int32_t* row = labels + int64_t{y} * width;
    for (int x = 0; x + 1 < width; ++x)
      if (row[x] != row[x + 1]) add(row[x], row[x + 1]);
    if (y + 1 < height)
      for (int x = 0; x < width; ++x)
        if (row[x] != row[x + width]) add(row[x], row[x + width]);
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  return pairs;
}

}  // namespace

std::vector<uint32_t> texture_slots(const Planes& planes) {
  const SelectiveSearchLoops& loops = LABELPENET_PICK(kSelectiveSearchLoops);
  const int height = planes.height, width = planes.width;
  const int64_t pixels = planes.pixels();
  std::vector<uint32_t> slots(planes.channels * pixels);
  std::vector<int16_t> smooth(width + 2 * kFilterRadius), slope(width + 2 * kFilterRadius);
  for (int c = 0; c < planes.channels; ++c) {
    for (int y = 0; y < height; ++y) {
      const uint8_t* rows[kFilterTaps];
      for (int i = 0; i < kFilterTaps; ++i)
        rows[i] = planes.row(c, std::clamp(y + i - kFilterRadius, 0, height - 1));
      loops.derive_columns(rows, width, smooth.data() + kFilterRadius,
                           slope.data() + kFilterRadius);
      for (std::vector<int16_t>* line : {&smooth, &slope}) {
        std::fill_n(line->data(), kFilterRadius, (*line)[kFilterRadius]);
        std::fill_n(line->data() + kFilterRadius + width, kFilterRadius,
                    (*line)[kFilterRadius + width - 1]);
      }
      loops.derive_row(smooth.data(), slope.data(), width,
                       slots.data() + c * pixels + int64_t{y} * width);
    }
  }
  return slots;
}

BaseRegions describe_regions(const Planes& planes, const std::vector<uint32_t>& slots,
                             const int32_t* labels, int count) {
  BaseRegions regions;
  regions.count = count;
  regions.color_bins = planes.channels * kColorBins;
  regions.texture_bins = planes.channels * kOrientations * kTextureBins;
  regions.stride = regions.texture_begin() + BaseRegions::padded(regions.texture_bins);
  regions.sizes.resize(count);
  regions.boxes.assign(count, Box{planes.width, planes.height, 0, 0});
  regions.histograms.resize(size_t(count) * regions.stride);
  find_boxes(labels, planes.height, planes.width, regions);
  count_pixels(planes, slots, labels, regions);
  count_zero_bins(regions);
  regions.neighbors = find_neighbors(labels, planes.height, planes.width);
  return regions;
}

}  // namespace labelpenet
