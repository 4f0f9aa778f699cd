// NMS on the device: which better box suppresses which as a matrix of bits, then the boxes of each
// label are walked in order of score, all labels at the same time. Nothing returns to the host on
// the way. A box's rank is its place in `order`: by label, then by falling score.
#include <climits>
#include <stdexcept>

#include "core/cuda_launch.cuh"
#include "nms/nms.hpp"
#include "nms/nms_math.hpp"

namespace labelpenet {
namespace {

using Word = unsigned long long;  // what CUDA's 64-bit atomics take

constexpr int kBits = 64;
constexpr int kScanThreads = 512;
constexpr int kThreads = 256;
constexpr int kGatherThreads = 1024;

__device__ __forceinline__ Box box_at(const NmsArgs& a, int64_t rank) {
  const float* b = a.boxes + 4 * a.order[rank];
  return {b[0], b[1], b[2], b[3]};
}

__device__ __forceinline__ int64_t label_at(const NmsArgs& a, int64_t rank) {
  return a.rank_labels ? a.rank_labels[rank] : 0;
}

// x - x is 0 for finite x, else NaN
__device__ __forceinline__ bool finite(const Box& b) {
  return b.x1 - b.x1 == 0 && b.y1 - b.y1 == 0 && b.x2 - b.x2 == 0 && b.y2 - b.y2 == 0;
}

__device__ __forceinline__ int lowest_bit(Word bits) {
  return __ffsll(static_cast<long long>(bits)) - 1;
}

// mask[row][word] bit j: rank `row` would suppress rank word * 64 + j. One block: 64 rows, one
// word. Words left of the diagonal, and those that share no label with the row, are not written nor
// read.
__global__ void compare(NmsArgs a, IouThreshold threshold) {
  const int64_t words = (a.count + kBits - 1) / kBits;
  const bool diagonal = blockIdx.x == blockIdx.y;
  const int64_t column0 = int64_t{blockIdx.x} * kBits, row0 = int64_t{blockIdx.y} * kBits;
  if (column0 < row0) return;
  if (label_at(a, column0) > label_at(a, min(row0 + kBits, a.count) - 1)) return;
  __shared__ Box columns[kBits];
  __shared__ float areas[kBits];
  __shared__ int64_t labels[kBits];
  const int t = threadIdx.x;
  const int64_t row = row0 + t;
  const int count = static_cast<int>(min(int64_t{kBits}, a.count - column0));
  if (t < count) {
    const Box column = box_at(a, column0 + t);
    columns[t] = column;
    areas[t] = box_area(column);
    labels[t] = label_at(a, column0 + t);
  }
  __syncthreads();
  if (row >= a.count) return;
  const Box box = box_at(a, row);
  const float area = box_area(box);
  const int64_t label = label_at(a, row);
  if (diagonal) {
    a.best[row] = static_cast<int32_t>(row);
    if (!finite(box) || a.scores[row] != a.scores[row]) a.status[1] = 1;
  }
  Word bits = 0;
  for (int j = diagonal ? t + 1 : 0; j < count; ++j)
    if (labels[j] == label && overlaps(box, area, columns[j], areas[j], threshold))
      bits |= Word{1} << j;
  a.mask[row * words + blockIdx.x] = bits;
}

// The first rank behind `begin` with another label; all threads of the block get it.
__device__ int64_t end_of_label(const NmsArgs& a, int64_t begin) {
  if (!a.rank_labels) return a.count;
  __shared__ int found;
  const int64_t label = a.rank_labels[begin];
  for (int64_t from = begin + 1; from < a.count; from += kScanThreads) {
    if (threadIdx.x == 0) found = kScanThreads;
    __syncthreads();
    const int64_t rank = from + threadIdx.x;
    if (rank < a.count && a.rank_labels[rank] != label)
      atomicMin(&found, static_cast<int>(threadIdx.x));
    __syncthreads();
    const int first = found;
    __syncthreads();  // before the next round, or the next call, writes it
    if (first < kScanThreads) return from + first;
  }
  return a.count;
}

// Walks the ranks [begin, end) of one label. Per round, 64 boxes are settled among themselves, then
// every pair of a kept box and a later word of 64 boxes is one thread's: it strikes them out, and
// leaves with each the smallest rank that does. `removed` holds the words that the label touches.
__device__ void walk(const NmsArgs& a, int64_t begin, int64_t end, Word* removed) {
  __shared__ Word diagonal[kBits];
  __shared__ Word settled;
  __shared__ int kept[kBits];
  const int64_t words = (a.count + kBits - 1) / kBits;
  const int64_t first_word = begin / kBits, last_word = (end - 1) / kBits;
  const int t = threadIdx.x;
  const Word* mask = reinterpret_cast<const Word*>(a.mask);
  for (int64_t w = t; w <= last_word - first_word; w += kScanThreads) removed[w] = 0;
  const auto load_diagonal = [&](int64_t word) {
    const int64_t row = word * kBits + t;
    return t < kBits && row >= begin && row < end ? mask[row * words + word] : Word{0};
  };
  Word own = load_diagonal(first_word);
  for (int64_t word = first_word; word <= last_word; ++word) {
    const int64_t first = word * kBits;
    if (t < kBits) diagonal[t] = own;
    __syncthreads();
    if (word < last_word) own = load_diagonal(word + 1);  // arrives while this round is settled
    if (t == 0) {
      const int low = static_cast<int>(max(begin - first, int64_t{0}));
      const int high = static_cast<int>(min(end - first, int64_t{kBits}));
      const Word members = (~Word{0} >> (kBits - (high - low))) << low;
      Word out = removed[word - first_word] | ~members, alive = 0;
#pragma unroll 16
      for (int j = 0; j < kBits; ++j) {
        const bool stays = !(out >> j & 1);
        alive |= stays ? Word{1} << j : Word{0};
        out |= stays ? diagonal[j] : Word{0};
      }
      settled = alive;
    }
    __syncthreads();
    const Word alive = settled;
    if (t < kBits && (alive >> t & 1)) kept[__popcll(alive & ((Word{1} << t) - 1))] = t;
    __syncthreads();
    const int across = static_cast<int>(last_word - word + 1);
    const int pairs = __popcll(alive) * across;
    for (int p = t; p < pairs; p += kScanThreads) {
      const int64_t row = first + kept[p / across], column = word + p % across;
      const Word struck = mask[row * words + column];
      if (struck && column > word) atomicOr(removed + (column - first_word), struck);
      for (Word left = struck; left; left &= left - 1)
        atomicMin(a.best + column * kBits + lowest_bit(left), static_cast<int32_t>(row));
    }
    __syncthreads();
  }
}

// One block per 64 ranks: it walks the labels that begin there.
__global__ void scan(NmsArgs a) {
  LABELPENET_DYNAMIC_SHARED(Word, removed);
  __shared__ unsigned begins_in_warp[kBits / 32];
  const int64_t first = int64_t{blockIdx.x} * kBits;
  if (threadIdx.x < kBits) {
    const int64_t rank = first + threadIdx.x;
    const bool begins = rank == 0 || (a.rank_labels && rank < a.count &&
                                      a.rank_labels[rank] != a.rank_labels[rank - 1]);
    const unsigned vote = __ballot_sync(~0u, begins);
    if (threadIdx.x % 32 == 0) begins_in_warp[threadIdx.x / 32] = vote;
  }
  __syncthreads();
  Word begins = begins_in_warp[0] | static_cast<Word>(begins_in_warp[1]) << 32;
  for (; begins; begins &= begins - 1) {
    const int64_t begin = first + lowest_bit(begins);
    walk(a, begin, end_of_label(a, begin), removed);
  }
}

// From ranks to boxes.
__global__ void own(NmsArgs a) {
  const int64_t rank = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (rank < a.count) a.owner[a.order[rank]] = a.order[a.best[rank]];
}

// One block: the kept boxes of all labels by falling score.
__global__ void gather(NmsArgs a) {
  __shared__ int kept_in_warp[kGatherThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t total = 0;
  for (int64_t from = 0; from < a.count; from += kGatherThreads) {
    const int64_t place = from + threadIdx.x;
    const int64_t box = place < a.count ? a.by_score[place] : 0;
    const bool stays = place < a.count && a.owner[box] == box;
    const unsigned vote = __ballot_sync(~0u, stays);
    if (lane == 0) kept_in_warp[warp] = __popc(vote);
    __syncthreads();
    int64_t at = total + __popc(vote & ((1u << lane) - 1u));
    for (int w = 0; w < kGatherThreads / 32; ++w) {
      at += w < warp ? kept_in_warp[w] : 0;
      total += kept_in_warp[w];
    }
    if (stays) a.keep[at] = box;
    __syncthreads();
  }
  if (threadIdx.x == 0) a.status[0] = total;
}

}  // namespace

void nms_cuda(const NmsArgs& args, void* stream) {
  if (args.count == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  const unsigned words = blocks_for(args.count, kBits);
  constexpr size_t kSharedLimit = 44 << 10;  // what every device grants, less what `walk` has
  if (words * sizeof(Word) > kSharedLimit)
    throw std::invalid_argument("boxes: a device takes at most " +
                                std::to_string(kSharedLimit / sizeof(Word) * kBits) + ", got " +
                                std::to_string(args.count));
  cuda_check(cudaMemsetAsync(args.status, 0, 2 * sizeof(int64_t), on), "nms: status");
  LABELPENET_LAUNCH(compare, dim3(words, words), kBits, 0, on)(args,
                                                               iou_threshold(args.iou_threshold));
  cuda_check_launch("nms: compare");
  LABELPENET_LAUNCH(scan, words, kScanThreads, words * sizeof(Word), on)(args);
  cuda_check_launch("nms: scan");
  LABELPENET_LAUNCH(own, blocks_for(args.count, kThreads), kThreads, 0, on)(args);
  cuda_check_launch("nms: own");
  if (!args.keep) return;
  LABELPENET_LAUNCH(gather, 1, kGatherThreads, 0, on)(args);
  cuda_check_launch("nms: gather");
}

}  // namespace labelpenet
