// ROI pooling on the CPU. float takes the tiled path: 16 channels at a time are laid side by side,
// and row-wise running maxima over 1, 2, 4, ... cells leave at most two reads a row for most bins.
// double, which only gradient checks use, takes plain loops.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/huge_pages.hpp"
#include "core/parallel.hpp"
#include "roi_pool/roi_pool.hpp"
#include "roi_pool/roi_pool_simd.hpp"

namespace labelpenet {
namespace {

// Values below which starting threads would cost more than it saves.
constexpr int64_t kFewValues = 1 << 15;

// Where the bins of every box lie, and in which order the boxes are taken.
struct Plan {
  struct Box {
    int64_t roi;
    int level;  // bins are at least 2^level cells wide, unless empty
  };
  struct Image {
    std::vector<Box> boxes;                          // by level, then as given
    Span rows{INT32_MAX, 0}, columns{INT32_MAX, 0};  // the window that its boxes cover
  };
  std::vector<Span> rows;     // [rois, pooled_height]
  std::vector<Span> columns;  // [rois, pooled_width]
  std::vector<Image> images;
};

void cover(Span& all, Span part) {
  if (part.begin >= part.end) return;
  all.begin = std::min(all.begin, part.begin);
  all.end = std::max(all.end, part.end);
}

template <class T>
Plan make_plan(const RoiPoolArgs& a) {
  Plan plan;
  plan.rows.reserve(a.rois * a.pooled_height);
  plan.columns.reserve(a.rois * a.pooled_width);
  plan.images.resize(a.images);
  const T scale = static_cast<T>(a.spatial_scale);
  for (int64_t roi = 0; roi < a.rois; ++roi) {
    const T* box = static_cast<const T*>(a.boxes) + roi * 5;
    if (!(box[0] >= 0 && box[0] < static_cast<T>(a.images)))
      throw std::invalid_argument("boxes: image index outside [0, " + std::to_string(a.images) +
                                  ")");
    Plan::Image& image = plan.images[static_cast<int64_t>(box[0])];
    const RoiAxis<T> down = roi_axis(box[2], box[4], scale, a.pooled_height);
    for (int i = 0; i < a.pooled_height; ++i) {
      plan.rows.push_back(bin_span(down, i, a.height));
      cover(image.rows, plan.rows.back());
    }
    const RoiAxis<T> across = roi_axis(box[1], box[3], scale, a.pooled_width);
    int narrowest = INT32_MAX;
    for (int i = 0; i < a.pooled_width; ++i) {
      const Span span = bin_span(across, i, a.width);
      plan.columns.push_back(span);
      cover(image.columns, span);
      if (span.end > span.begin) narrowest = std::min(narrowest, span.end - span.begin);
    }
    image.boxes.push_back({roi, narrowest == INT32_MAX ? 0 : std::ilogb(narrowest)});
  }
  for (Plan::Image& image : plan.images)
    std::stable_sort(image.boxes.begin(), image.boxes.end(),
                     [](const Plan::Box& x, const Plan::Box& y) { return x.level < y.level; });
  return plan;
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float, Free>;

Buffer aligned_floats(int64_t count) {
  void* memory = std::aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
  if (!memory && count) throw std::bad_alloc();
  return Buffer(static_cast<float*>(memory));
}

// Pools channels [first, first + lanes) of one image.
void pool_tile(const RoiPoolArgs& a, const Plan& plan, int64_t image_index, int64_t first,
               bool past_caches, float* memory) {
  const RoiPoolLoops& loops = LABELPENET_PICK(kRoiPoolLoops);
  const Plan::Image& image = plan.images[image_index];
  const int lanes = static_cast<int>(std::min<int64_t>(kTileLanes, a.channels - first));
  const int bins = a.pooled_height * a.pooled_width;
  RoiTile tile{};
  if (image.rows.end > 0 && image.columns.end > 0) {
    tile.top = image.rows.begin;
    tile.left = image.columns.begin;
    tile.height = image.rows.end - image.rows.begin;
    tile.width = image.columns.end - image.columns.begin;
  }
  const int64_t size = static_cast<int64_t>(tile.height) * tile.width * kTileLanes;
  float* scratch = memory;
  tile.value = scratch + int64_t{3} * bins * kTileLanes;
  if (a.argmax) tile.index = reinterpret_cast<int32_t*>(tile.value + size);
  const float* planes = static_cast<const float*>(a.features) +
                        (image_index * a.channels + first) * a.height * a.width;
  loops.load(planes, a.height * a.width, lanes, static_cast<int>(a.width), tile);
  int level = 0;
  for (const Plan::Box& box : image.boxes) {
    for (; level < box.level; ++level) loops.widen(tile, 1 << level);
    const RoiBins grid{plan.rows.data() + box.roi * a.pooled_height,
                       plan.columns.data() + box.roi * a.pooled_width, a.pooled_height,
                       a.pooled_width};
    const int64_t at = (box.roi * a.channels + first) * bins;
    loops.pool(tile, 1 << level, grid, lanes, past_caches && lanes == kTileLanes, scratch,
               static_cast<float*>(a.pooled) + at, a.argmax ? a.argmax + at : nullptr);
  }
  loops.finish();
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; }

// Bytes beyond which a result is streamed: more than one core's share of the last cache.
constexpr int64_t kStreamed = 8 << 20;

void pool_tiled(const RoiPoolArgs& a, int threads) {
  const Plan plan = make_plan<float>(a);
  const int64_t tiles = (a.channels + kTileLanes - 1) / kTileLanes;
  const int64_t bins = int64_t{a.pooled_height} * a.pooled_width;
  const int64_t cells = a.height * a.width;
  const int64_t floats = (3 * bins + cells * (a.argmax ? 2 : 1)) * kTileLanes;
  if (a.rois * a.channels * bins < kFewValues) threads = 1;
  // A result that no cache holds is streamed to memory: a plain store would read each line first.
  // A tile's part of it starts on a line where every box does.
  const int64_t bytes = a.rois * a.channels * bins * sizeof(float);
  const bool past_caches = bytes > kStreamed && aligned(a.pooled) && aligned(a.argmax) &&
                           a.channels * bins % kTileLanes == 0;
  advise_huge_pages(a.pooled, bytes);
  if (a.argmax) advise_huge_pages(a.argmax, bytes);
  const int64_t tasks = a.images * tiles;
  const int workers = static_cast<int>(std::min<int64_t>(std::max(threads, 1), tasks));
  std::vector<Buffer> memory(workers);
  for (Buffer& buffer : memory) buffer = aligned_floats(floats);
  parallel_for(tasks, 1, workers, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task)
      if (!plan.images[task / tiles].boxes.empty())
        pool_tile(a, plan, task / tiles, task % tiles * kTileLanes, past_caches,
                  memory[thread].get());
  });
}

void pool_plain(const RoiPoolArgs& a, int threads) {
  const Plan plan = make_plan<double>(a);
  const double* boxes = static_cast<const double*>(a.boxes);
  const int64_t bins = int64_t{a.pooled_height} * a.pooled_width;
  parallel_for(a.rois, 16, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t plane = begin * a.channels; plane < end * a.channels; ++plane) {
      const int64_t roi = plane / a.channels;
      const int64_t image = static_cast<int64_t>(boxes[roi * 5]);
      const double* features = static_cast<const double*>(a.features) +
                               (image * a.channels + plane % a.channels) * a.height * a.width;
      for (int64_t bin = 0; bin < bins; ++bin) {
        const Span rows = plan.rows[roi * a.pooled_height + bin / a.pooled_width];
        const Span columns = plan.columns[roi * a.pooled_width + bin % a.pooled_width];
        const bool empty = rows.begin >= rows.end || columns.begin >= columns.end;
        double best = empty ? 0.0 : kLowest;
        int64_t where = -1;
        for (int64_t y = rows.begin; y < rows.end; ++y)
          for (int64_t x = columns.begin; x < columns.end; ++x)
            if (features[y * a.width + x] > best) {
              where = y * a.width + x;
              best = features[where];
            }
        static_cast<double*>(a.pooled)[plane * bins + bin] = best;
        if (a.argmax) a.argmax[plane * bins + bin] = static_cast<int32_t>(where);
      }
    }
  });
}

// Adds the gradient of `count` channels. Boxes lie far apart in memory and no hardware prefetcher
// sees the pattern, so their runs are asked for some boxes ahead.
template <class T>
void scatter_channels(const RoiPoolBackwardArgs& a, int64_t first, int64_t count) {
  constexpr int64_t kAhead = 8, kLine = 16;
  const T* grad_pooled = static_cast<const T*>(a.grad_pooled);
  T* grad_features = static_cast<T*>(a.grad_features);
  for (int64_t image = 0; image < a.images; ++image)
    std::fill_n(grad_features + (image * a.channels + first) * a.cells, count * a.cells, T(0));
  for (int64_t roi = 0; roi < a.rois; ++roi) {
    const int64_t at = (roi * a.channels + first) * a.bins;
    if (roi + kAhead < a.rois)
      for (int64_t i = 0; i < count * a.bins; i += kLine) {
        const int64_t ahead = at + kAhead * a.channels * a.bins + i;
        __builtin_prefetch(grad_pooled + ahead);
        __builtin_prefetch(a.argmax + ahead);
      }
    T* planes = grad_features + (a.image_of[roi] * a.channels + first) * a.cells;
    for (int64_t channel = 0; channel < count; ++channel) {
      const int32_t* where = a.argmax + at + channel * a.bins;
      const T* value = grad_pooled + at + channel * a.bins;
      for (int64_t bin = 0; bin < a.bins; ++bin)
        if (where[bin] >= 0) planes[channel * a.cells + where[bin]] += value[bin];
    }
  }
}

// One thread owns a channel of every image, so that no two add to the same cell; boxes are added in
// the order given, whatever the thread count.
template <class T>
void scatter(const RoiPoolBackwardArgs& a, int threads) {
  constexpr int64_t kChannels = 2;  // their planes of 75 x 100 cells stay in the nearest cache
  if (a.channels * (a.rois * a.bins + a.images * a.cells) < kFewValues) threads = 1;
  for (int64_t roi = 0; roi < a.rois; ++roi)
    if (a.image_of[roi] < 0 || a.image_of[roi] >= a.images)
      throw std::invalid_argument("image_of: outside [0, " + std::to_string(a.images) + ")");
  parallel_for(a.channels, kChannels, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t first = begin; first < end; first += kChannels)
      scatter_channels<T>(a, first, std::min(kChannels, end - first));
  });
}

}  // namespace

void roi_pool_cpu(const RoiPoolArgs& args, int threads) {
  if (args.dtype == DType::kFloat64)
    pool_plain(args, threads);
  else
    pool_tiled(args, threads);
}

void roi_pool_backward_cpu(const RoiPoolBackwardArgs& args, int threads) {
  if (args.dtype == DType::kFloat64)
    scatter<double>(args, threads);
  else
    scatter<float>(args, threads);
}

}  // namespace labelpenet
