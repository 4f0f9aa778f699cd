#include "core/cuda_launch.cuh"
#include "excitation/excitation.hpp"
#include "excitation/excitation_math.hpp"

namespace labelpenet {
namespace {

constexpr int kThreads = 256;

// The same order of additions in every run. Ends with a barrier, so `shared` may be used again.
__device__ float block_sum(float value, float* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < static_cast<unsigned>(step))
      shared[threadIdx.x] += shared[threadIdx.x + step];
    __syncthreads();
  }
  const float sum = shared[0];
  __syncthreads();
  return sum;
}

// One block per proposal.
template <class T>
__global__ void start_kernel(ExcitationStart a) {
  __shared__ float shared[kThreads];
  const int64_t r = blockIdx.x;
  const T* x = static_cast<const T*>(a.x) + r * a.units;
  const int64_t label = a.classes[r];
  T* gain = static_cast<T*>(a.gain) + r * a.units;
  if (label < 0 || label >= a.num_classes) {  // the whole block: nobody waits at a barrier
    for (int64_t d = threadIdx.x; d < a.units; d += kThreads) store(0.f, gain + d);
    return;
  }
  const T* weight = static_cast<const T*>(a.weight) + label * a.units;
  float plus = 0.f, minus = 0.f;
  for (int64_t d = threadIdx.x; d < a.units; d += kThreads) {
    const float activation = load(x[d]), w = load(weight[d]);
    plus += activation * positive(w);
    minus += activation * positive(-w);
  }
  plus = share<T>(a.start[r], block_sum(plus, shared));
  minus = a.contrastive ? share<T>(a.start[r], block_sum(minus, shared)) : 0.f;
  for (int64_t d = threadIdx.x; d < a.units; d += kThreads)
    store(start_gain<T>(load(weight[d]), plus, minus), gain + d);
}

// One thread per unit.
template <class T>
__global__ void ratio_kernel(ExcitationRatio a) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= a.count) return;
  const float probability =
      in_range<float>(load(static_cast<const T*>(a.x)[i]) * load(static_cast<const T*>(a.gain)[i]));
  T* z = static_cast<T*>(a.z) + i;
  store(share<T>(probability, load(*z)), z);
}

// One block per proposal; its threads read `groups` channels at a time, next to each other, and
// each adds up one cell. With more cells than threads, kThreads cells at a time.
template <class T>
__global__ void sum_kernel(ExcitationSum a) {
  __shared__ float shared[kThreads];
  const int64_t r = blockIdx.x, row = a.channels * a.cells;
  const T* x = static_cast<const T*>(a.x) + r * row;
  const T* gain = static_cast<const T*>(a.gain) + r * row;
  const int width = a.cells < kThreads ? static_cast<int>(a.cells) : kThreads;
  const int groups = kThreads / width, group = threadIdx.x / width;
  for (int64_t first = 0; first < a.cells; first += width) {
    const int64_t cell = first + threadIdx.x % width;
    float total = 0.f;
    if (group < groups && cell < a.cells)
      for (int64_t c = group; c < a.channels; c += groups)
        total += in_range<float>(load(x[c * a.cells + cell]) * load(gain[c * a.cells + cell]));
    shared[threadIdx.x] = total;
    __syncthreads();
    if (group == 0 && cell < a.cells) {
      for (int g = 1; g < groups; ++g) total += shared[g * width + threadIdx.x];
      a.maps[r * a.cells + cell] = a.clamp ? positive(total) : total;
    }
  }  // no barrier: with a second round there is one group, and no thread reads another's sum
}

}  // namespace

void excitation_start_cuda(const ExcitationStart& args, void* stream) {
  if (args.proposals == 0) return;
  auto* kernel = args.bfloat16 ? start_kernel<BFloat16> : start_kernel<float>;
  LABELPENET_LAUNCH(kernel, blocks_for(args.proposals, 1), kThreads, 0,
                    static_cast<cudaStream_t>(stream))(args);
  cuda_check_launch("excitation_start");
}

void excitation_ratio_cuda(const ExcitationRatio& args, void* stream) {
  if (args.count == 0) return;
  auto* kernel = args.bfloat16 ? ratio_kernel<BFloat16> : ratio_kernel<float>;
  LABELPENET_LAUNCH(kernel, blocks_for(args.count, kThreads), kThreads, 0,
                    static_cast<cudaStream_t>(stream))(args);
  cuda_check_launch("excitation_ratio");
}

void excitation_sum_cuda(const ExcitationSum& args, void* stream) {
  if (args.proposals == 0 || args.cells == 0) return;
  auto* kernel = args.bfloat16 ? sum_kernel<BFloat16> : sum_kernel<float>;
  LABELPENET_LAUNCH(kernel, blocks_for(args.proposals, 1), kThreads, 0,
                    static_cast<cudaStream_t>(stream))(args);
  cuda_check_launch("excitation_sum");
}

}  // namespace labelpenet
