// Mean-field inference in a fully connected CRF with Gaussian edge potentials.
// Source: Krähenbühl and Koltun, NIPS 2011; the filter is the permutohedral lattice of Adams, Baek
// and Davis, Eurographics 2010.
#pragma once
#include <cstdint>

namespace labelpenet {

// How a kernel matrix K is scaled by D = K 1: K, K D^-1, D^-1 K, D^-1/2 K D^-1/2.
enum class CrfNormalization : int { kNone, kBefore, kAfter, kSymmetric };

// One Gaussian edge potential compat * exp(-|f_i - f_j|^2 / 2) between pixels of unlike labels,
// f = (x, y) / sxy, and with a colour part (r, g, b) / srgb behind it.
struct CrfKernel {
  float sxy = 0;     // pixels, > 0
  float srgb = 0;    // grey levels, > 0; 0 = no colour part (a 2-D instead of a 5-D lattice)
  float compat = 0;  // Potts weight, any sign

  int dims() const { return srgb > 0 ? 5 : 2; }
};

constexpr int kMaxCrfKernels = 2;

struct DenseCrfArgs {
  const uint8_t* image;  // [H, W, 3] RGB
  const float* unary;    // [K, L, H, W], -log probability, finite; CUDA: a NaN makes its pixel NaN
                         // and is nothing to the others
  float* probability;    // [K, L, H, W], written: every element, also where iterations = 0
  int64_t maps;          // K
  int64_t labels;        // L >= 2
  int64_t height;
  int64_t width;
  int iterations;  // >= 0
  CrfNormalization normalization;
  CrfKernel kernel[kMaxCrfKernels];
  int kernels;  // how many of them count

  int64_t pixels() const { return height * width; }
};

void dense_crf_cpu(const DenseCrfArgs& args, int threads);

// `scratch`: device memory of dense_crf_scratch_cuda(args) bytes, aligned to 256, unwritten.
// Launches only: nothing is read back, so the stream may be captured in a graph.
void dense_crf_cuda(const DenseCrfArgs& args, unsigned char* scratch, void* stream);
int64_t dense_crf_scratch_cuda(const DenseCrfArgs& args);

}  // namespace labelpenet
