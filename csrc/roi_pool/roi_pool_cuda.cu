// ROI pooling on the device. Forward: a block keeps a few channels of the whole feature map in
// shared memory and pools all boxes from there (roi_pool_slab.cuh); where the map is too large for
// that, or the places of the maxima are wanted, features are laid cells first, so that a warp reads
// 32 channels of a cell at once. Backward: one warp owns the plane of a channel and adds in the
// order of the boxes, so that there are no atomics and every run gives the CPU's bits.
#include <string>
#include <type_traits>

#include "roi_pool/roi_pool_slab.cuh"

namespace labelpenet {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};

// ---- forward -----------------------------------------------------------------------------------

constexpr int kRows = 8;  // warps of a block

// [channels, cells] -> [cells, channels] of one image (blockIdx.z), 32 x 32 at a time.
template <class T>
__global__ void lay_cells_first(const T* __restrict__ features, int64_t channels, int64_t cells,
                                T* __restrict__ cells_first) {
  __shared__ T tile[kWarp][kWarp + 1];  // + 1: columns fall into different banks
  const int64_t image = blockIdx.z * channels * cells;
  const int64_t cell0 = int64_t{blockIdx.x} * kWarp, channel0 = int64_t{blockIdx.y} * kWarp;
  for (int i = threadIdx.y; i < kWarp; i += kRows)
    if (channel0 + i < channels && cell0 + threadIdx.x < cells)
      tile[i][threadIdx.x] = features[image + (channel0 + i) * cells + cell0 + threadIdx.x];
  __syncthreads();
  for (int i = threadIdx.y; i < kWarp; i += kRows)
    if (cell0 + i < cells && channel0 + threadIdx.x < channels)
      cells_first[image + (cell0 + i) * channels + channel0 + threadIdx.x] = tile[threadIdx.x][i];
}

constexpr int kBinChunk = 64;  // bins that a block holds before it writes them out

// One block: one box, 32 channels. A lane is a channel, a warp takes every eighth bin.
template <class T, class Coordinate, bool kArgmax>
__global__ void pool(const T* __restrict__ cells_first, const Coordinate* __restrict__ boxes,
                     Coordinate scale, int64_t images, int64_t channels, int64_t height,
                     int64_t width, int pooled_height, int pooled_width, T* __restrict__ pooled,
                     int32_t* __restrict__ argmax) {
  using W = typename Wide<T>::type;
  __shared__ W values[kWarp][kBinChunk + 1];
  __shared__ int32_t places[kArgmax ? kWarp : 1][kBinChunk + 1];
  const int64_t channel0 = int64_t{blockIdx.y} * kWarp, channel = channel0 + threadIdx.x;
  const Coordinate* box = boxes + int64_t{5} * blockIdx.x;
  const bool known = valid_box(box, images);
  const int64_t image = known ? static_cast<int64_t>(box[0]) : 0;
  const RoiAxis<Coordinate> across = roi_axis(box[1], box[3], scale, pooled_width);
  const RoiAxis<Coordinate> down = roi_axis(box[2], box[4], scale, pooled_height);
  const T* features = cells_first + image * height * width * channels + channel;
  const int bins = pooled_height * pooled_width;
  for (int bin0 = 0; bin0 < bins; bin0 += kBinChunk) {
    for (int i = threadIdx.y; i < kBinChunk && bin0 + i < bins; i += kRows) {
      const Span rows = bin_span(down, (bin0 + i) / pooled_width, height);
      const Span columns = bin_span(across, (bin0 + i) % pooled_width, width);
      const bool empty = !known || rows.begin >= rows.end || columns.begin >= columns.end;
      W best = !known ? W(NAN) : empty ? W(0) : W(kLowest);
      int32_t where = -1;
      if (!empty && channel < channels)
        for (int64_t y = rows.begin; y < rows.end; ++y)
          for (int64_t x = columns.begin; x < columns.end; ++x) {
            const int64_t cell = y * width + x;
            const W value = widen(features[cell * channels]);
            if (!(value > best)) continue;
            best = value;
            where = static_cast<int32_t>(cell);
          }
      values[threadIdx.x][i] = best;
      if (kArgmax) places[threadIdx.x][i] = where;
    }
    __syncthreads();
    const int count = min(kBinChunk, bins - bin0);
    for (int i = threadIdx.y * kWarp + threadIdx.x; i < kWarp * count; i += kWarp * kRows) {
      const int lane = i / count, bin = i % count;
      if (channel0 + lane >= channels) break;
      const int64_t at = (blockIdx.x * channels + channel0 + lane) * bins + bin0 + bin;
      store(pooled + at, values[lane][bin]);
      if (kArgmax) argmax[at] = places[lane][bin];
    }
    __syncthreads();
  }
}

template <class T, class Coordinate>
void forward(const RoiPoolArgs& a, cudaStream_t stream) {
  const int64_t cells = a.height * a.width;
  const dim3 block(kWarp, kRows);
  if constexpr (!std::is_same_v<T, double>)
    if (!a.argmax && pool_from_slabs<T>(a, stream)) return;
  const unsigned tiles = blocks_for(a.channels, kWarp);
  if (tiles > kMaxGridYZ || a.images > kMaxGridYZ)
    throw std::invalid_argument("features: too many channels or images for one launch");
  T* cells_first = static_cast<T*>(a.cells_first);
  const dim3 turn(blocks_for(cells, kWarp), tiles, static_cast<unsigned>(a.images));
  LABELPENET_LAUNCH(lay_cells_first<T>, turn, block, 0, stream)
  (static_cast<const T*>(a.features), a.channels, cells, cells_first);
  cuda_check_launch("roi_pool: lay_cells_first");
  const dim3 grid(blocks_for(a.rois, 1), tiles);
  const auto kernel = a.argmax ? pool<T, Coordinate, true> : pool<T, Coordinate, false>;
  LABELPENET_LAUNCH(kernel, grid, block, 0, stream)
  (cells_first, static_cast<const Coordinate*>(a.boxes), static_cast<Coordinate>(a.spatial_scale),
   a.images, a.channels, a.height, a.width, a.pooled_height, a.pooled_width,
   static_cast<T*>(a.pooled), a.argmax);
  cuda_check_launch("roi_pool");
}

// ---- backward ----------------------------------------------------------------------------------

// plane[where] += value for every lane with where >= 0; lanes that share a cell add in their order.
template <class W>
__device__ void add_in_order(W* plane, int32_t where, W value) {
  const unsigned before = (1u << threadIdx.x) - 1;
  const unsigned same_cell = __match_any_sync(kAllLanes, where);
  const int turn = where < 0 ? kWarp : __popc(same_cell & before);
  for (int t = 0; __any_sync(kAllLanes, turn >= t && turn < kWarp); ++t) {
    if (turn == t) plane[where] += value;
    __syncwarp();
  }
}

constexpr int kAhead = 4;  // steps whose loads are on the way while others are summed

// One warp: one channel of one image, summed in shared memory where the plane fits.
template <class T, bool kShared>
__global__ void scatter(const T* __restrict__ grad_pooled, const int32_t* __restrict__ argmax,
                        const int32_t* __restrict__ image_of, int64_t channels, int64_t cells,
                        int64_t rois, int64_t bins, typename Wide<T>::type* grad_features) {
  using W = typename Wide<T>::type;
  LABELPENET_DYNAMIC_SHARED(W, shared_plane);
  const int64_t image = blockIdx.x / channels, channel = blockIdx.x % channels;
  const int lane = threadIdx.x;
  W* out = grad_features + blockIdx.x * cells;
  W* plane = kShared ? shared_plane : out;
  for (int64_t i = lane; i < cells; i += kWarp) plane[i] = W(0);
  __syncwarp();
  // A step is 32 bins of a box.
  int64_t roi = 0, first_bin = 0;  // of the step that is fetched next
  int32_t next_where[kAhead];
  W next_value[kAhead];
  const auto fetch = [&] {
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      next_where[k] = -1;
      next_value[k] = W(0);
      if (roi >= rois) continue;
      const int64_t bin = first_bin + lane;
      if (bin < bins && image_of[roi] == image) {
        const int64_t at = (roi * channels + channel) * bins + bin;
        next_where[k] = argmax[at] < cells ? argmax[at] : -1;
        next_value[k] = widen(grad_pooled[at]);
      }
      first_bin += kWarp;
      if (first_bin >= bins) first_bin = 0, ++roi;
    }
  };
  const int64_t steps = rois * ((bins + kWarp - 1) / kWarp);
  fetch();
  for (int64_t step = 0; step < steps; step += kAhead) {
    int32_t where[kAhead];
    W value[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) where[k] = next_where[k], value[k] = next_value[k];
    fetch();
#pragma unroll
    for (int k = 0; k < kAhead; ++k) add_in_order(plane, where[k], value[k]);
  }
  if (kShared)
    for (int64_t i = lane; i < cells; i += kWarp) out[i] = plane[i];
}

template <class T>
void backward(const RoiPoolBackwardArgs& a, cudaStream_t stream) {
  if (a.images * a.channels == 0) return;  // a device refuses a launch without blocks
  using W = typename Wide<T>::type;
  constexpr size_t kSharedLimit = 48 << 10;  // what every device grants without opting in
  const size_t plane = a.cells * sizeof(W);
  const bool shared = plane <= kSharedLimit;
  const auto kernel = shared ? scatter<T, true> : scatter<T, false>;
  LABELPENET_LAUNCH(kernel, blocks_for(a.images * a.channels, 1), kWarp, shared ? plane : 0, stream)
  (static_cast<const T*>(a.grad_pooled), a.argmax, a.image_of, a.channels, a.cells, a.rois, a.bins,
   static_cast<W*>(a.grad_features));
  cuda_check_launch("roi_pool_backward");
}

}  // namespace

void roi_pool_cuda(const RoiPoolArgs& args, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  switch (args.dtype) {
    case DType::kFloat64:
      return forward<double, double>(args, on);
    case DType::kFloat16:
      return forward<__half, float>(args, on);
    case DType::kBFloat16:
      return forward<__nv_bfloat16, float>(args, on);
    default:
      return forward<float, float>(args, on);
  }
}

void roi_pool_backward_cuda(const RoiPoolBackwardArgs& args, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  switch (args.dtype) {
    case DType::kFloat64:
      return backward<double>(args, on);
    case DType::kFloat16:
      return backward<__half>(args, on);
    case DType::kBFloat16:
      return backward<__nv_bfloat16>(args, on);
    default:
      return backward<float>(args, on);
  }
}

}  // namespace labelpenet
