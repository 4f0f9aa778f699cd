// Maps are small: three short kernels, each with a thread per cell, over all maps at once.
#include "core/cuda_launch.cuh"
#include "peaks/peaks.hpp"
#include "peaks/peaks_math.hpp"

namespace labelpenet {
namespace {

constexpr int kThreads = 256;

// A block per row: the sum, in the CPU's order, and the blur along it.
__global__ void rows_kernel(PeaksArgs a) {
  const int64_t row = blockIdx.x;
  const float* line = a.maps + row * a.width;
  if (threadIdx.x == 0) {
    double sum = 0.;
    for (int x = 0; x < a.width; ++x) sum += line[x];
    a.sums[row] = sum;
  }
  for (int x = threadIdx.x; x < a.width; x += kThreads)
    a.blurred[row * a.width + x] = blur(line, 1, x, a.width, a.weights, a.radius);
}

// A block per row: the blur across rows, the mean and the response.
__global__ void response_kernel(PeaksArgs a) {
  __shared__ float mean;
  const int64_t row = blockIdx.x, map = row / a.height;
  const int y = static_cast<int>(row % a.height);
  if (threadIdx.x == 0) {
    double total = 0.;
    for (int v = 0; v < a.height; ++v) total += a.sums[map * a.height + v];
    mean = static_cast<float>(total / (static_cast<double>(a.height) * a.width));
  }
  __syncthreads();
  const float* blurred = a.blurred + map * a.height * a.width;
  for (int x = threadIdx.x; x < a.width; x += kThreads) {
    const float smooth = blur(blurred + x, a.width, y, a.height, a.weights, a.radius);
    a.response[row * a.width + x] = peak_response(a.maps[row * a.width + x], smooth, mean);
  }
}

__global__ void maxima_kernel(PeaksArgs a) {
  const int64_t pixels = int64_t{a.height} * a.width;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= a.num_maps * pixels) return;
  const int64_t map = i / pixels;
  const int y = static_cast<int>(i % pixels / a.width), x = static_cast<int>(i % a.width);
  a.peaks[i] = is_peak(a.response + map * pixels, y, x, a.height, a.width, a.reach, a.threshold);
}

}  // namespace

void peaks_cuda(const PeaksArgs& args, void* stream) {
  const int64_t rows = args.num_maps * args.height;
  if (rows * args.width == 0) return;
  const auto s = static_cast<cudaStream_t>(stream);
  LABELPENET_LAUNCH(rows_kernel, blocks_for(rows, 1), kThreads, 0, s)(args);
  cuda_check_launch("peaks: rows");
  LABELPENET_LAUNCH(response_kernel, blocks_for(rows, 1), kThreads, 0, s)(args);
  cuda_check_launch("peaks: response");
  LABELPENET_LAUNCH(maxima_kernel, blocks_for(rows * args.width, kThreads), kThreads, 0, s)(args);
  cuda_check_launch("peaks: maxima");
}

}  // namespace labelpenet
