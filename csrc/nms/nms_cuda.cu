// NMS on the device: which better box suppresses which as a matrix of bits, then one block walks it
// in order of score. Nothing returns to the host on the way.
#include <stdexcept>

#include "core/cuda_launch.cuh"
#include "nms/nms.hpp"
#include "nms/nms_math.hpp"

namespace labelpenet {
namespace {

constexpr int kBits = 64;
constexpr int kScanThreads = 256;

// Box `rank` by score.
__device__ __forceinline__ Box box_at(const float* boxes, const int64_t* order, int64_t rank) {
  const float* b = boxes + 4 * order[rank];
  return {b[0], b[1], b[2], b[3]};
}

// x - x is 0 for finite x, else NaN
__device__ __forceinline__ bool finite(const Box& b) {
  return b.x1 - b.x1 == 0 && b.y1 - b.y1 == 0 && b.x2 - b.x2 == 0 && b.y2 - b.y2 == 0;
}

// mask[row][word] bit j: row (by score) would suppress box word * 64 + j. One block: 64 rows, one
// word; words left of the diagonal are neither written nor read.
__global__ void compare(NmsArgs a, float threshold) {
  const int64_t words = (a.count + kBits - 1) / kBits;
  if (blockIdx.x < blockIdx.y) return;
  __shared__ Box columns[kBits];
  __shared__ int64_t column_labels[kBits];
  const int64_t column0 = int64_t{blockIdx.x} * kBits,
                row = int64_t{blockIdx.y} * kBits + threadIdx.x;
  const int count = static_cast<int>(min(int64_t{kBits}, a.count - column0));
  if (threadIdx.x < count) {
    columns[threadIdx.x] = box_at(a.boxes, a.order, column0 + threadIdx.x);
    column_labels[threadIdx.x] = a.labels ? a.labels[a.order[column0 + threadIdx.x]] : 0;
  }
  __syncthreads();
  if (row >= a.count) return;
  const Box box = box_at(a.boxes, a.order, row);
  const int64_t label = a.labels ? a.labels[a.order[row]] : 0;
  if (blockIdx.x == blockIdx.y && (!finite(box) || a.scores[row] != a.scores[row])) a.status[1] = 1;
  uint64_t bits = 0;
  for (int j = blockIdx.x == blockIdx.y ? threadIdx.x + 1 : 0; j < count; ++j)
    if (column_labels[j] == label && box_iou(box, columns[j]) > threshold) bits |= uint64_t{1} << j;
  a.mask[row * words + blockIdx.x] = bits;
}

__device__ __forceinline__ int lowest_bit(uint64_t bits) {
  return __ffsll(static_cast<long long>(bits)) - 1;
}

// One block. Per round, 64 boxes are settled among themselves, then strike out later ones.
__global__ void scan(NmsArgs a) {
  LABELPENET_DYNAMIC_SHARED(uint64_t, removed);  // [words]
  __shared__ uint64_t diagonal[kBits];
  __shared__ uint64_t settled;
  const int64_t words = (a.count + kBits - 1) / kBits;
  const int t = threadIdx.x;
  for (int64_t w = t; w < words; w += blockDim.x) removed[w] = 0;
  int64_t kept = 0;
  for (int64_t round = 0; round < words; ++round) {
    const int64_t first = round * kBits;
    const int rows = static_cast<int>(min(int64_t{kBits}, a.count - first));
    if (t < rows) diagonal[t] = a.mask[(first + t) * words + round];
    __syncthreads();
    const uint64_t gone = removed[round];
    if (t == 0) {
      uint64_t out = gone, alive = 0;
      for (int j = 0; j < rows; ++j) {
        if (out >> j & 1) continue;
        alive |= uint64_t{1} << j;
        out |= diagonal[j];
      }
      settled = alive;
    }
    __syncthreads();
    const uint64_t alive = settled;
    if (t < rows) {
      const int64_t box = a.order[first + t];
      if (alive >> t & 1) {
        a.keep[kept + __popcll(alive & ((uint64_t{1} << t) - 1))] = box;
        if (a.owner) a.owner[box] = box;
      } else if (a.owner && !(gone >> t & 1)) {
        uint64_t left = alive;
        while (!(diagonal[lowest_bit(left)] >> t & 1)) left &= left - 1;
        a.owner[box] = a.order[first + lowest_bit(left)];
      }
    }
    for (int64_t w = round + 1 + t; w < words; w += blockDim.x) {
      uint64_t out = removed[w];
      for (uint64_t left = alive; left; left &= left - 1) {
        const int64_t row = first + lowest_bit(left);
        const uint64_t struck = a.mask[row * words + w];
        if (a.owner)
          for (uint64_t fresh = struck & ~out; fresh; fresh &= fresh - 1)
            a.owner[a.order[w * kBits + lowest_bit(fresh)]] = a.order[row];
        out |= struck;
      }
      removed[w] = out;
    }
    kept += __popcll(alive);
    __syncthreads();
  }
  if (t == 0) a.status[0] = kept;
}

}  // namespace

void nms_cuda(const NmsArgs& args, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const unsigned words = blocks_for(args.count, kBits);
  constexpr size_t kSharedLimit = 48 << 10;  // what every device grants without opting in
  if (words * sizeof(uint64_t) > kSharedLimit)
    throw std::invalid_argument("boxes: a device takes at most 393216, got " +
                                std::to_string(args.count));
  cuda_check(cudaMemsetAsync(args.status, 0, 2 * sizeof(int64_t), on), "nms: status");
  LABELPENET_LAUNCH(compare, dim3(words, words), kBits, 0, on)(args,
                                                               round_down(args.iou_threshold));
  cuda_check_launch("nms: compare");
  LABELPENET_LAUNCH(scan, 1, kScanThreads, words * sizeof(uint64_t), on)(args);
  cuda_check_launch("nms: scan");
}

}  // namespace labelpenet
