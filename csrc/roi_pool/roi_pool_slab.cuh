// ROI pooling out of shared memory. A slab is the whole feature map of one image in as many
// channels as 16 bytes hold: its cells are read from device memory once per block, not once per
// box, and every load of the pooling itself is a 16-byte one from shared memory.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/cuda_launch.cuh"
#include "roi_pool/roi_pool.hpp"
#include "roi_pool/roi_pool_math.hpp"

namespace labelpenet {
namespace {

// The 16-bit types are computed in float.
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void store(float* to, float x) { *to = x; }
__device__ __forceinline__ void store(double* to, double x) { *to = x; }
__device__ __forceinline__ void store(__half* to, float x) { *to = __float2half_rn(x); }
__device__ __forceinline__ void store(__nv_bfloat16* to, float x) { *to = __float2bfloat16_rn(x); }

__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }

// In pairs, where the device has that (7.5 has not); a NaN loses, as in fmaxf.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define LABELPENET_LARGER(a, b) \
  {widen(b.x) > widen(a.x) ? b.x : a.x, widen(b.y) > widen(a.y) ? b.y : a.y}
#else
#define LABELPENET_LARGER(a, b) __hmax2(a, b)
#endif
__device__ __forceinline__ __half2 larger(__half2 a, __half2 b) { return LABELPENET_LARGER(a, b); }
__device__ __forceinline__ __nv_bfloat162 larger(__nv_bfloat162 a, __nv_bfloat162 b) {
  return LABELPENET_LARGER(a, b);
}

// What `larger` takes of each type.
template <class T>
struct Several;
template <>
struct Several<float> {
  using type = float;
};
template <>
struct Several<__half> {
  using type = __half2;
};
template <>
struct Several<__nv_bfloat16> {
  using type = __nv_bfloat162;
};

template <class T>
struct alignas(16) SlabCell {
  static constexpr int kChannels = 16 / sizeof(T);
  T channel[kChannels];
};

// best = the larger, channel by channel.
template <class T>
__device__ __forceinline__ void take(SlabCell<T>& best, const SlabCell<T>& cell) {
  using S = typename Several<T>::type;
  constexpr int kParts = 16 / sizeof(S);
  S a[kParts], b[kParts];
  memcpy(a, &best, 16);
  memcpy(b, &cell, 16);
#pragma unroll
  for (int i = 0; i < kParts; ++i) a[i] = larger(a[i], b[i]);
  memcpy(&best, a, 16);
}

template <class T>
__device__ __forceinline__ SlabCell<T> slab_cell(float value) {
  SlabCell<T> cell;
#pragma unroll
  for (int v = 0; v < SlabCell<T>::kChannels; ++v) store(cell.channel + v, value);
  return cell;
}

constexpr int kSlabThreads = 1024;
constexpr int kSlabBoxes = 128;  // whose spans are in shared memory at a time

struct ShortSpan {
  int16_t begin, end;
};

struct SlabSizes {
  int cells;  // of the feature map
  int spans;  // of a box: pooled_height + pooled_width
  int64_t bytes() const {
    return int64_t{16} * cells + int64_t{kSlabBoxes} * (spans * sizeof(ShortSpan) + 1);
  }
};

enum BoxState : uint8_t { kOtherImage, kPool, kInvalid };

// Grid: slabs of channels, parts of the boxes, images. A thread takes a bin of a box at a time.
template <class T>
__global__ void __launch_bounds__(kSlabThreads) pool_slab(RoiPoolArgs a, SlabSizes sizes) {
  constexpr int kChannels = SlabCell<T>::kChannels;
  LABELPENET_DYNAMIC_SHARED(SlabCell<T>, slab);  // [cells]
  ShortSpan* spans = reinterpret_cast<ShortSpan*>(slab + sizes.cells);
  uint8_t* states = reinterpret_cast<uint8_t*>(spans + kSlabBoxes * sizes.spans);
  const int t = threadIdx.x, width = static_cast<int>(a.width);
  const int64_t image = blockIdx.z, channel0 = int64_t{blockIdx.x} * kChannels;
  const int channels = static_cast<int>(min(a.channels - channel0, int64_t{kChannels}));
  const T* features =
      static_cast<const T*>(a.features) + (image * a.channels + channel0) * sizes.cells;
  for (int i = t; i < sizes.cells; i += kSlabThreads) {
    SlabCell<T> cell = slab_cell<T>(0.0f);
#pragma unroll
    for (int v = 0; v < kChannels; ++v)
      if (v < channels) cell.channel[v] = features[int64_t{v} * sizes.cells + i];
    slab[i] = cell;
  }
  const unsigned bins = a.pooled_height * a.pooled_width;
  const int64_t part = (a.rois + gridDim.y - 1) / gridDim.y;
  const int64_t end = min(a.rois, part * (blockIdx.y + 1));
  const float scale = static_cast<float>(a.spatial_scale);
  T* pooled = static_cast<T*>(a.pooled);
  for (int64_t first = part * blockIdx.y; first < end; first += kSlabBoxes) {
    const int boxes = static_cast<int>(min(end - first, int64_t{kSlabBoxes}));
    for (int i = t; i < boxes * sizes.spans; i += kSlabThreads) {
      const float* box = static_cast<const float*>(a.boxes) + 5 * (first + i / sizes.spans);
      const int k = i % sizes.spans, column = k - a.pooled_height;
      const Span span =
          column < 0 ? bin_span(roi_axis(box[2], box[4], scale, a.pooled_height), k, a.height)
                     : bin_span(roi_axis(box[1], box[3], scale, a.pooled_width), column, a.width);
      spans[i] = {static_cast<int16_t>(span.begin), static_cast<int16_t>(span.end)};
      if (k > 0) continue;
      const bool valid = valid_box(box, a.images);
      states[i / sizes.spans] = !valid ? kInvalid : box[0] == image ? kPool : kOtherImage;
    }
    __syncthreads();  // the slab is there, too
    for (unsigned i = t; i < boxes * bins; i += kSlabThreads) {
      const int box = i / bins, bin = i % bins;
      const int state = states[box];
      if (state == kOtherImage || (state == kInvalid && image > 0)) continue;
      const ShortSpan* of_box = spans + box * sizes.spans;
      const ShortSpan rows = of_box[bin / a.pooled_width];
      const ShortSpan columns = of_box[a.pooled_height + bin % a.pooled_width];
      const bool empty = rows.begin >= rows.end || columns.begin >= columns.end;
      SlabCell<T> best = slab_cell<T>(state == kInvalid ? NAN : empty ? 0.0f : kLowest);
      if (state == kPool && !empty)
        for (int y = rows.begin; y < rows.end; ++y)
          for (int x = columns.begin; x < columns.end; ++x) take(best, slab[y * width + x]);
      T* out = pooled + ((first + box) * a.channels + channel0) * bins + bin;
#pragma unroll
      for (int v = 0; v < kChannels; ++v)
        if (v < channels) out[int64_t{v} * bins] = best.channel[v];
    }
    __syncthreads();
  }
}

// False, with nothing done, where the map or the grid of bins is too large for shared memory.
template <class T>
bool pool_from_slabs(const RoiPoolArgs& a, cudaStream_t stream) {
  if (a.height * a.width > INT16_MAX || a.pooled_height + a.pooled_width > 64) return false;
  const SlabSizes sizes{static_cast<int>(a.height * a.width), a.pooled_height + a.pooled_width};
  int device = 0, limit = 0, processors = 0;
  cuda_check(cudaGetDevice(&device), "roi_pool: device");
  cuda_check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             "roi_pool: shared memory");
  cuda_check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
             "roi_pool: multiprocessors");
  if (sizes.bytes() > limit || a.images > kMaxGridYZ) return false;
  const int bytes = static_cast<int>(sizes.bytes());
  // the device's most and not `bytes`: it is the kernel's, which other threads launch, too
  cuda_check(cudaFuncSetAttribute(pool_slab<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, limit),
             "roi_pool: shared memory");
  const unsigned slabs = blocks_for(a.channels, SlabCell<T>::kChannels);
  // three blocks a multiprocessor in all: the slowest one is then little of the whole
  const int64_t parts = max(int64_t{1}, min(int64_t{3} * processors / (slabs * a.images),
                                            (a.rois + kSlabBoxes - 1) / kSlabBoxes));
  LABELPENET_LAUNCH(pool_slab<T>,
                    dim3(slabs, static_cast<unsigned>(parts), static_cast<unsigned>(a.images)),
                    kSlabThreads, bytes, stream)
  (a, sizes);
  cuda_check_launch("roi_pool: slab");
  return true;
}

}  // namespace
}  // namespace labelpenet
