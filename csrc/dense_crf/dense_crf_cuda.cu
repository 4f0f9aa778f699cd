#include <utility>

#include "dense_crf/dense_crf.hpp"
#include "dense_crf/lattice_cuda.cuh"

namespace labelpenet {
namespace {

constexpr int kChannels = 8;        // filtered together: one 32-byte sector a row
constexpr int kMaxBinaryMaps = 32;  // two-label maps that share a pass

// Hands out stretches of scratch memory; with no memory it measures how much is needed.
class Arena {
 public:
  explicit Arena(unsigned char* base) : base_(base) {}
  template <class T>
  T* take(int64_t count) {
    T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    return p;
  }
  int64_t used() const { return used_; }

 private:
  unsigned char* base_;
  int64_t used_ = 0;
};

struct Plan {
  DeviceLattice lattice[kMaxCrfKernels];
  float* degree;  // [N] K 1 of one kernel
  float* before;  // [N]
  float* after;   // [N]
  float* total;   // [N] twice the sum of compat K 1, with two labels
  float* rows;    // [N, stride] Q, then the messages
  int stride;     // 1, or a multiple of kChannels
  int64_t bytes;
};

bool filters(const DenseCrfArgs& a) { return a.iterations > 0 && a.kernels > 0; }

Plan make_plan(const DenseCrfArgs& a, unsigned char* scratch) {
  Arena arena(scratch);
  Plan plan{};
  const int64_t n = a.pixels();
  const int64_t together = a.labels == 2 ? min(a.maps, int64_t{kMaxBinaryMaps}) : a.labels;
  plan.stride =
      together == 1 ? 1 : static_cast<int>((together + kChannels - 1) / kChannels * kChannels);
  const int channels = plan.stride == 1 ? 1 : kChannels;
  plan.rows = arena.take<float>(n * plan.stride);
  if (filters(a)) {
    plan.degree = arena.take<float>(n);
    plan.before = arena.take<float>(n);
    plan.after = arena.take<float>(n);
    plan.total = arena.take<float>(n);
    for (int k = 0; k < a.kernels; ++k) {
      const CrfKernel& kernel = a.kernel[k];
      DeviceLattice& l = plan.lattice[k];
      l.dims = kernel.dims();
      l.pixels = n;
      l.vertex_limit = kernel.dims() == 2
                           ? max_vertices<2>(a.height, a.width, kernel.sxy, kernel.srgb)
                           : max_vertices<5>(a.height, a.width, kernel.sxy, kernel.srgb);
      if (n > (1ll << 30) / (l.dims + 1))
        throw std::invalid_argument("image: too large for a lattice with 32-bit entries");
      l.slots = 64;
      while (l.slots < 2 * l.vertex_limit) l.slots *= 2;
      const int64_t entries = n * (l.dims + 1), vertices = l.vertex_limit + 1;
      l.slot_key = arena.take<Word64>(l.slots);
      l.slot_vertex = arena.take<int>(l.slots);
      l.vertices = arena.take<int>(1);
      l.entries_placed = arena.take<int>(1);
      l.vertex_key = arena.take<Word64>(vertices);
      l.count = arena.take<int>(vertices);
      l.neighbour = arena.take<int>(2 * (l.dims + 1) * vertices);
      l.corner = arena.take<int>(entries);
      l.slice = arena.take<float>(entries);
      l.entry_vertex = arena.take<int>(entries);
      l.entry_pixel = arena.take<int>(entries);
      l.entry_splat = arena.take<float>(entries);
      l.fixed = arena.take<Word64>(vertices * channels);
      l.front = arena.take<float>(vertices * channels);
      l.back = arena.take<float>(vertices * channels);
    }
  }
  plan.bytes = arena.used();
  return plan;
}

// ---- kernels -----------------------------------------------------------------------------------
__global__ void ones_kernel(float* rows, int64_t n) {
  const int64_t i = thread_index();
  if (i < n) rows[i] = 1.0f;
}

__global__ void normalize_kernel(const float* degree, float* before, float* after, int64_t n,
                                 CrfNormalization normalization) {
  const int64_t i = thread_index();
  if (i >= n) return;
  const float d = degree[i] + 1e-20f;
  const float root = normalization == CrfNormalization::kSymmetric ? 1.0f / sqrtf(d) : 1.0f;
  before[i] = normalization == CrfNormalization::kBefore ? 1.0f / d : root;
  after[i] = normalization == CrfNormalization::kAfter ? 1.0f / d : root;
}

// Two labels: rows[p, c] = q = sigmoid(messages + U_0 - U_1 - total / 2), the probability of label
// 1 (see infer_binary in dense_crf_cpu.cpp). `first` has no messages; `out` is null until the end.
// C neighbouring threads share a pixel, so that rows are read and written whole.
template <int C>
__global__ void binary_kernel(const float* unary, const float* total, float* rows, int stride,
                              int maps, int64_t n, bool first, float* out) {
  const int64_t pixel = thread_index() / C;
  if (pixel >= n) return;
  for (int c = static_cast<int>(thread_index() % C); c < stride; c += C) {
    float* at = rows + pixel * stride + c;
    float q = 0;
    if (c < maps) {
      const int64_t plane = int64_t{2} * c * n + pixel;
      const float odds = unary[plane] - unary[plane + n];
      const float score = first ? odds : odds - 0.5f * total[pixel] + *at;
      q = 1.0f / (1.0f + expf(-score));
      if (out) {
        out[plane] = 1.0f - q;
        out[plane + n] = q;
      }
    }
    *at = q;
  }
}

// rows[p] = softmax(messages - U) over the labels of one map. kChannels threads share a pixel.
__global__ void softmax_kernel(const float* unary, float* rows, int stride, int labels, int64_t n,
                               bool first, float* out) {
  const int64_t pixel = thread_index() / kChannels;
  const int lane = threadIdx.x % kChannels;
  const bool here = pixel < n;  // the others go along, for the shuffles' sake
  float* row = rows + pixel * stride;
  const auto score = [&](int c) { return (first ? 0.0f : row[c]) - unary[c * n + pixel]; };
  float top = -INFINITY;
  for (int c = lane; here && c < labels; c += kChannels) top = fmaxf(top, score(c));
  for (int step = kChannels / 2; step > 0; step /= 2)
    top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
  float sum = 0;
  for (int c = lane; here && c < labels; c += kChannels) sum += expf(score(c) - top);
  for (int step = kChannels / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  for (int c = lane; here && c < stride; c += kChannels) {
    const float q = c < labels ? expf(score(c) - top) / sum : 0.0f;
    row[c] = q;
    if (out && c < labels) out[c * n + pixel] = q;
  }
}

// ---- launches ----------------------------------------------------------------------------------
template <int D>
void build(const DenseCrfArgs& a, const CrfKernel& kernel, const DeviceLattice& l, int channels,
           cudaStream_t stream) {
  const LatticeGeometry<D> g = make_lattice_geometry<D>(a.height, a.width, kernel.sxy, kernel.srgb);
  const int64_t vertices = l.vertex_limit + 1;
  auto clear = [&](void* p, int value, int64_t bytes) {
    cuda_check(cudaMemsetAsync(p, value, bytes, stream), "dense_crf: clear");
  };
  clear(l.slot_key, 0xFF, l.slots * sizeof(Word64));
  clear(l.vertices, 0, sizeof(int));
  clear(l.entries_placed, 0, sizeof(int));
  clear(l.count, 0, vertices * sizeof(int));
  clear(l.fixed, 0, vertices * channels * sizeof(Word64));
  const unsigned entry_blocks = blocks_for(l.pixels * (D + 1), kThreads);
  LABELPENET_LAUNCH(insert_kernel<D>, blocks_for(l.pixels, kThreads), kThreads, 0, stream)
  (l, g, a.image, a.width);
  cuda_check_launch("dense_crf: insert");
  LABELPENET_LAUNCH(count_kernel, entry_blocks, kThreads, 0, stream)(l);
  cuda_check_launch("dense_crf: count");
  LABELPENET_LAUNCH(place_kernel<D>, vertex_blocks(l.vertex_limit), kThreads, 0, stream)(l, g);
  cuda_check_launch("dense_crf: place");
  LABELPENET_LAUNCH(fill_kernel, entry_blocks, kThreads, 0, stream)(l);
  cuda_check_launch("dense_crf: fill");
}

// Splats and blurs C channels of rows; returns the values to slice.
template <int C>
const float* splat_and_blur(const DeviceLattice& l, const float* rows, int stride,
                            cudaStream_t stream) {
  constexpr int kEntries = C == 1 ? 8 : 32;
  const int64_t groups = (l.pixels * (l.dims + 1) + kEntries - 1) / kEntries;
  const unsigned blocks = vertex_blocks(l.vertex_limit * C);
  LABELPENET_LAUNCH((splat_kernel<C, kEntries>), blocks_for(groups * C, kThreads), kThreads, 0,
                    stream)
  (l, rows, stride);
  cuda_check_launch("dense_crf: splat");
  LABELPENET_LAUNCH(to_float_kernel<C>, blocks, kThreads, 0, stream)(l);
  cuda_check_launch("dense_crf: to_float");
  float *front = l.front, *back = l.back;
  for (int axis = 0; axis <= l.dims; ++axis) {
    LABELPENET_LAUNCH(blur_kernel<C>, blocks, kThreads, 0, stream)(l, axis, front, back);
    cuda_check_launch("dense_crf: blur");
    std::swap(front, back);
  }
  return front;
}

// rows = sum over lattices [first, last) of the filtered rows, C channels at a time.
template <int C>
void filter(const Plan& plan, int first, int last, const float* in, float* out, int stride,
            cudaStream_t stream) {
  for (int c = 0; c < stride; c += C) {
    SliceArgs slice{};
    for (int k = first; k < last; ++k) {
      slice.lattice[slice.count] = plan.lattice[k];
      slice.values[slice.count++] = splat_and_blur<C>(plan.lattice[k], in + c, stride, stream);
    }
    LABELPENET_LAUNCH(slice_kernel<C>, blocks_for(plan.lattice[0].pixels * C, kThreads), kThreads,
                      0, stream)
    (slice, out + c, stride);
    cuda_check_launch("dense_crf: slice");
  }
}

void build_lattices(const DenseCrfArgs& a, const Plan& plan, cudaStream_t stream) {
  const int64_t n = a.pixels();
  const unsigned blocks = blocks_for(n, kThreads);
  for (int k = 0; k < a.kernels; ++k) {
    const DeviceLattice& l = plan.lattice[k];
    const bool flat = l.dims == 2;
    const int channels = plan.stride == 1 ? 1 : kChannels;
    flat ? build<2>(a, a.kernel[k], l, channels, stream)
         : build<5>(a, a.kernel[k], l, channels, stream);
    const unsigned entry_blocks = blocks_for(n * (l.dims + 1), kThreads);
    LABELPENET_LAUNCH(scale_slice_kernel, entry_blocks, kThreads, 0, stream)
    (l, static_cast<const float*>(nullptr), flat ? slice_scale<2>() : slice_scale<5>());
    cuda_check_launch("dense_crf: scale");
    // the ones are in plan.rows, which nobody needs yet
    LABELPENET_LAUNCH(ones_kernel, blocks, kThreads, 0, stream)(plan.rows, n);
    cuda_check_launch("dense_crf: ones");
    filter<1>(plan, k, k + 1, plan.rows, plan.degree, 1, stream);
    LABELPENET_LAUNCH(normalize_kernel, blocks, kThreads, 0, stream)
    (plan.degree, plan.before, plan.after, n, a.normalization);
    cuda_check_launch("dense_crf: normalize");
    LABELPENET_LAUNCH(scale_slice_kernel, entry_blocks, kThreads, 0, stream)
    (l, plan.after, a.kernel[k].compat * (a.labels == 2 ? 2.0f : 1.0f));
    cuda_check_launch("dense_crf: scale");
    LABELPENET_LAUNCH(scale_splat_kernel, entry_blocks, kThreads, 0, stream)(l, plan.before);
    cuda_check_launch("dense_crf: scale");
  }
  if (a.labels == 2) filter<1>(plan, 0, a.kernels, plan.rows, plan.total, 1, stream);
}

void infer(const DenseCrfArgs& a, const Plan& plan, int64_t first_map, int maps,
           cudaStream_t stream) {
  const int64_t n = a.pixels();
  const float* unary = a.unary + first_map * a.labels * n;
  float* probability = a.probability + first_map * a.labels * n;
  const int steps = filters(a) ? a.iterations : 0;
  for (int i = 0; i <= steps; ++i) {
    const bool first = i == 0;
    if (!first && plan.stride == 1)
      filter<1>(plan, 0, a.kernels, plan.rows, plan.rows, 1, stream);
    else if (!first)
      filter<kChannels>(plan, 0, a.kernels, plan.rows, plan.rows, plan.stride, stream);
    float* out = i == steps ? probability : nullptr;
    if (a.labels == 2) {
      const auto kernel = plan.stride == 1 ? binary_kernel<1> : binary_kernel<kChannels>;
      const int together = plan.stride == 1 ? 1 : kChannels;
      LABELPENET_LAUNCH(kernel, blocks_for(n * together, kThreads), kThreads, 0, stream)
      (unary, plan.total, plan.rows, plan.stride, maps, n, first, out);
    } else {
      LABELPENET_LAUNCH(softmax_kernel, blocks_for(n * kChannels, kThreads), kThreads, 0, stream)
      (unary, plan.rows, plan.stride, static_cast<int>(a.labels), n, first, out);
    }
    cuda_check_launch("dense_crf: update");
  }
}

}  // namespace

int64_t dense_crf_scratch_cuda(const DenseCrfArgs& args) { return make_plan(args, nullptr).bytes; }

void dense_crf_cuda(const DenseCrfArgs& args, unsigned char* scratch, void* stream_handle) {
  if (args.maps == 0 || args.pixels() == 0) return;
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  const Plan plan = make_plan(args, scratch);
  if (filters(args)) build_lattices(args, plan, stream);
  const int64_t step = args.labels == 2 ? kMaxBinaryMaps : 1;
  for (int64_t first = 0; first < args.maps; first += step)
    infer(args, plan, first, static_cast<int>(min(args.maps - first, step)), stream);
}

}  // namespace labelpenet
