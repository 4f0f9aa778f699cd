#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.hpp"
#include "dense_crf/dense_crf.hpp"
#include "dense_crf/lattice_cpu.hpp"

namespace labelpenet {
namespace {

constexpr int64_t kBlockGrain = 256;
constexpr int kMaxBinaryMaps = 32;  // two-label maps filtered together
constexpr float kNoLabel = -1e30f;  // score of a channel that only pads a row

// The lattices of an image's kernels and the memory that a filter pass needs.
class Filter {
 public:
  Filter(const DenseCrfArgs& args, int threads) : threads_(threads) {
    const float share = args.labels == 2 ? 2.0f : 1.0f;
    const int64_t padded = blocks_of(args.pixels()) * kLanes;
    // K 1, summed over the kernels with their Potts weights and normalisation
    total_ = Buffer<float>(padded);
    Buffer<float> ones(padded), degree(padded), before(padded), after(padded);
    std::fill_n(ones.get(), padded, 1.0f);
    for (int k = 0; k < args.kernels; ++k) {
      lattices_.emplace_back(args.image, args.height, args.width, args.kernel[k], threads);
      Lattice& lattice = lattices_.back();
      reserve(1);
      lattice.scale(ones.get(), ones.get(),
                    args.kernel[k].dims() == 2 ? slice_scale<2>() : slice_scale<5>(), threads);
      run(ones.get(), nullptr, degree.get(), 1, k, k + 1);
      for (int64_t p = 0; p < padded; ++p) {
        const float d = degree[p] + 1e-20f;
        const CrfNormalization n = args.normalization;
        const float root = n == CrfNormalization::kSymmetric ? 1 / std::sqrt(d) : 1.0f;
        before[p] = n == CrfNormalization::kBefore ? 1 / d : root;
        after[p] = n == CrfNormalization::kAfter ? 1 / d : root;
      }
      lattice.scale(before.get(), after.get(), share * args.kernel[k].compat, threads);
    }
    if (args.labels == 2) run(ones.get(), nullptr, total_.get(), 1, 0, args.kernels);
  }

  // rows = base + sum over the kernels of compat K rows; twice the sum where there are two labels.
  void operator()(const float* base, float* rows, int channels) {
    run(rows, base, rows, channels, 0, static_cast<int>(lattices_.size()));
  }

  // [pixels] twice the sum over the kernels of compat K 1, where there are two labels.
  const float* total() const { return total_.get(); }

  void reserve(int channels) {
    front_.resize(lattices_.size());
    back_.resize(lattices_.size());
    for (size_t k = 0; k < lattices_.size(); ++k) {
      const int64_t size = (int64_t{lattices_[k].view().vertices} + 1) * channels;
      front_[k] = Buffer<float>(size);
      back_[k] = Buffer<float>(size);
    }
  }

 private:
  void run(const float* in, const float* base, float* out, int channels, int first, int last) {
    LatticeView views[kMaxLattices];
    const float* values[kMaxLattices];
    const int count = last - first;
    for (int k = first; k < last; ++k) {
      views[k - first] = lattices_[k].view();
      values[k - first] = lattices_[k].splat_and_blur(loops_, in, channels, front_[k].get(),
                                                      back_[k].get(), threads_);
    }
    const int64_t blocks = blocks_of(views[0].pixels);
    parallel_for(blocks, kBlockGrain, threads_, [&](int64_t begin, int64_t end, int) {
      loops_.slice(views, values, count, base, out, channels, begin, end);
    });
  }

  const CrfLoops& loops_ = LABELPENET_PICK(kCrfLoops);
  int threads_;
  std::vector<Lattice> lattices_;
  std::vector<Buffer<float>> front_, back_;
  Buffer<float> total_;
};

// Two labels need one number per pixel, the probability q of label 1: the log odds are
//   U_0 - U_1 + sum_k compat_k (K_k q - K_k (1 - q)) = U_0 - U_1 - total / 2 + sum 2 compat K q.
// Up to kMaxBinaryMaps label maps are the channels of one filter pass.
void infer_binary(const DenseCrfArgs& args, Filter* filter, int64_t first, int maps, int threads) {
  const CrfLoops& loops = LABELPENET_PICK(kCrfLoops);
  const int64_t n = args.pixels(), blocks = blocks_of(n);
  const int channels = maps == 1 ? 1 : (maps + 7) / 8 * 8;
  Buffer<float> base(blocks * kLanes * channels), q(blocks * kLanes * channels);
  auto for_blocks = [&](const auto& body) { parallel_for(blocks, kBlockGrain, threads, body); };
  auto to_probability = [&] {
    for_blocks([&](int64_t begin, int64_t end, int) {
      loops.sigmoid(q.get() + begin * kLanes * channels, (end - begin) * kLanes * channels);
    });
  };

  for_blocks([&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin * kLanes; p < end * kLanes; ++p) {
      for (int c = 0; c < channels; ++c) {
        const float* unary = args.unary + (first + c) * 2 * n + p;
        const float odds = p < n && c < maps ? unary[0] - unary[n] : 0.0f;
        q[p * channels + c] = odds;
        base[p * channels + c] = filter ? odds - 0.5f * filter->total()[p] : odds;
      }
    }
  });
  if (filter) filter->reserve(channels);
  to_probability();
  for (int i = 0; filter && i < args.iterations; ++i) {
    (*filter)(base.get(), q.get(), channels);
    to_probability();
  }
  for_blocks([&](int64_t begin, int64_t end, int) {
    for (int c = 0; c < maps; ++c) {
      float* out = args.probability + (first + c) * 2 * n;
      for (int64_t p = begin * kLanes; p < std::min(end * kLanes, n); ++p) {
        out[p] = 1.0f - q[p * channels + c];
        out[n + p] = q[p * channels + c];
      }
    }
  });
}

void infer(const DenseCrfArgs& args, Filter* filter, int64_t map, int threads) {
  const CrfLoops& loops = LABELPENET_PICK(kCrfLoops);
  const int64_t n = args.pixels(), blocks = blocks_of(n);
  const int labels = static_cast<int>(args.labels), channels = (labels + 7) / 8 * 8;
  const float* unary = args.unary + map * labels * n;
  float* probability = args.probability + map * labels * n;
  Buffer<float> base(blocks * kLanes * channels), q(blocks * kLanes * channels);
  auto for_blocks = [&](const auto& body) { parallel_for(blocks, kBlockGrain, threads, body); };
  auto to_probability = [&] {
    for_blocks([&](int64_t begin, int64_t end, int) {
      loops.softmax(q.get() + begin * kLanes * channels, (end - begin) * kLanes, channels);
    });
  };

  for_blocks([&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin * kLanes; p < end * kLanes; ++p)
      for (int c = 0; c < channels; ++c)
        base[p * channels + c] = q[p * channels + c] = c >= labels ? kNoLabel
                                                       : p < n     ? -unary[c * n + p]
                                                                   : 0.0f;
  });
  if (filter) filter->reserve(channels);
  to_probability();
  for (int i = 0; filter && i < args.iterations; ++i) {
    (*filter)(base.get(), q.get(), channels);
    to_probability();
  }
  for_blocks([&](int64_t begin, int64_t end, int) {
    for (int c = 0; c < labels; ++c)
      for (int64_t p = begin * kLanes; p < std::min(end * kLanes, n); ++p)
        probability[c * n + p] = q[p * channels + c];
  });
}

}  // namespace

void dense_crf_cpu(const DenseCrfArgs& args, int threads) {
  if (args.maps == 0 || args.pixels() == 0) return;
  std::unique_ptr<Filter> filter;
  if (args.iterations > 0 && args.kernels > 0) filter = std::make_unique<Filter>(args, threads);
  if (args.labels == 2) {
    for (int64_t first = 0; first < args.maps; first += kMaxBinaryMaps)
      infer_binary(args, filter.get(), first,
                   static_cast<int>(std::min<int64_t>(args.maps - first, kMaxBinaryMaps)), threads);
  } else {
    for (int64_t map = 0; map < args.maps; ++map) infer(args, filter.get(), map, threads);
  }
}

}  // namespace labelpenet
