#include <algorithm>
#include <memory>
#include <vector>

#include "core/parallel.hpp"
#include "dense_crf/buffer.hpp"
#include "dense_crf/crf_loops.hpp"
#include "dense_crf/dense_crf.hpp"
#include "dense_crf/lattice_cpu.hpp"

namespace labelpenet {
namespace {

constexpr int64_t kBlockGrain = 256;
constexpr int64_t kFusedBlocks = 16;  // sliced, then turned into probabilities while in L2
constexpr int kMaxBinaryMaps = 32;    // two-label maps filtered together

// The lattices of an image's kernels.
class Filter {
 public:
  Filter(const DenseCrfArgs& args, int threads) : threads_(threads) {
    const float share = args.labels == 2 ? 2.0f : 1.0f;  // see MeanField
    for (int k = 0; k < args.kernels; ++k)
      lattices_.emplace_back(args.image, args.height, args.width, args.kernel[k],
                             args.normalization, share * args.kernel[k].compat, threads);
  }

  void reserve(int channels) {
    for (size_t k = 0; k < lattices_.size(); ++k) {
      const int64_t size = (int64_t{lattices_[k].view().vertices} + 1) * channels;
      front_[k] = Buffer<float>(size);
      back_[k] = Buffer<float>(size);
    }
  }

  // out = base + the sum over the kernels of K in, for rows of `channels` floats; then
  // finish(block, end) for every few blocks. reserve(channels) comes first.
  template <class Finish>
  void operator()(const float* in, const float* base, float* out, int channels,
                  const Finish& finish) const {
    LatticeView views[kMaxLattices];
    const float* values[kMaxLattices];
    const int count = static_cast<int>(lattices_.size());
    for (int k = 0; k < count; ++k) {
      views[k] = lattices_[k].view();
      values[k] =
          lattices_[k].splat_and_blur(in, channels, front_[k].get(), back_[k].get(), threads_);
    }
    const int64_t blocks = blocks_of(views[0].pixels);
    parallel_for(blocks, kBlockGrain, threads_, [&](int64_t begin, int64_t end, int) {
      for (int64_t b = begin; b < end; b += kFusedBlocks) {
        const int64_t last = std::min(b + kFusedBlocks, end);
        loops_.slice(views, values, count, base, out, channels, b, last);
        finish(b, last);
      }
    });
  }

 private:
  const LatticeLoops& loops_ = LABELPENET_PICK(kLatticeLoops);
  int threads_;
  std::vector<Lattice> lattices_;
  Buffer<float> front_[kMaxLattices], back_[kMaxLattices];
};

// Mean field over the channels of one filter pass: the labels of one map, or up to kMaxBinaryMaps
// maps of two labels.
//
// Two labels need one number per pixel, the probability q of label 1: the log odds are
//   U_0 - U_1 + sum_k compat_k (K_k q - K_k (1 - q)) = U_0 - U_1 - total / 2 + sum_k 2 compat_k K_k
//   q
// with total = sum_k 2 compat_k K_k 1.
class MeanField {
 public:
  MeanField(const DenseCrfArgs& args, int threads) : args_(args), threads_(threads) {
    if (args.iterations == 0 || args.kernels == 0) return;
    filter_ = std::make_unique<Filter>(args, threads);
    if (args.labels != 2) return;
    const int64_t padded = blocks_of(args.pixels()) * kLanes;
    Buffer<float> ones(padded);
    std::fill_n(ones.get(), padded, 1.0f);
    total_ = Buffer<float>(padded);
    filter_->reserve(1);
    (*filter_)(ones.get(), nullptr, total_.get(), 1, [](int64_t, int64_t) {});
  }

  // Maps [first, first + maps): one, or several of two labels.
  void infer(int64_t first, int64_t maps) {
    const bool binary = args_.labels == 2;
    const int64_t n = args_.pixels(), blocks = blocks_of(n);
    const int count = static_cast<int>(binary ? maps : args_.labels);
    const int channels = count == 1 ? 1 : (count + 7) / 8 * 8;
    const int64_t stride = binary ? 2 * n : n;  // from one channel's plane to the next
    const float* unary = args_.unary + first * args_.labels * n;
    float* probability = args_.probability + first * args_.labels * n;
    const int64_t row_block = kLanes * channels;
    Buffer<float> q(blocks * row_block), base;
    if (filter_) base = Buffer<float>(blocks * row_block);

    const auto to_probability = [&](int64_t begin, int64_t end) {
      if (binary)
        loops_.sigmoid(q.get() + begin * row_block, (end - begin) * row_block);
      else
        loops_.softmax(q.get() + begin * row_block, (end - begin) * kLanes, channels);
    };
    parallel_for(blocks, kBlockGrain, threads_, [&](int64_t begin, int64_t end, int) {
      loops_.to_rows(binary ? unary : nullptr, binary ? unary + n : unary, stride, count, n,
                     q.get(), channels, begin, end);
      if (filter_) start_from(q.get(), base.get(), channels, begin, end);
      to_probability(begin, end);
    });
    if (filter_) filter_->reserve(channels);
    for (int i = 0; filter_ && i < args_.iterations; ++i)
      (*filter_)(q.get(), base.get(), q.get(), channels, to_probability);
    parallel_for(blocks, kBlockGrain, threads_, [&](int64_t begin, int64_t end, int) {
      loops_.to_planes(q.get(), channels, count, stride, n, binary ? probability + n : probability,
                       binary ? probability : nullptr, begin, end);
    });
  }

 private:
  // base = scores, less total / 2 where there are two labels.
  void start_from(const float* scores, float* base, int channels, int64_t begin,
                  int64_t end) const {
    const bool binary = args_.labels == 2;
    for (int64_t p = begin * kLanes; p < end * kLanes; ++p) {
      const float shift = binary ? 0.5f * total_[p] : 0.0f;
      for (int c = 0; c < channels; ++c) base[p * channels + c] = scores[p * channels + c] - shift;
    }
  }

  const MeanFieldLoops& loops_ = LABELPENET_PICK(kMeanFieldLoops);
  const DenseCrfArgs& args_;
  int threads_;
  std::unique_ptr<Filter> filter_;  // null: nothing to filter by, or no iterations
  Buffer<float> total_;
};

}  // namespace

void dense_crf_cpu(const DenseCrfArgs& args, int threads) {
  if (args.maps == 0 || args.pixels() == 0) return;
  MeanField mean_field(args, threads);
  const int64_t step = args.labels == 2 ? kMaxBinaryMaps : 1;
  for (int64_t first = 0; first < args.maps; first += step)
    mean_field.infer(first, std::min(args.maps - first, step));
}

}  // namespace labelpenet
