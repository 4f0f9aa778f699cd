#include "bindings/bindings.hpp"
#include "excitation/excitation.hpp"

namespace labelpenet {
namespace {

void* stream_of(uintptr_t stream) { return reinterpret_cast<void*>(stream); }

void start(TensorView x, TensorView weight, TensorView classes, TensorView start, TensorView gain,
           bool contrastive, int threads, uintptr_t stream) {
  const int64_t proposals = x.shape[0], units = x.shape[1];
  const bool bfloat16 = x.dtype == DType::kBFloat16;
  const DType dtype = bfloat16 ? DType::kBFloat16 : DType::kFloat32;
  expect(x, "x", dtype, {-1, -1});
  expect(weight, "weight", dtype, {-1, units});
  expect(classes, "classes", DType::kInt64, {proposals});
  expect(start, "start", DType::kFloat32, {proposals});
  expect(gain, "gain", dtype, {proposals, units});
  expect_same_device({&x, &weight, &classes, &start, &gain});
  const ExcitationStart args{x.data,
                             weight.data,
                             classes.as<const int64_t>(),
                             start.as<const float>(),
                             gain.data,
                             proposals,
                             units,
                             weight.shape[0],
                             contrastive,
                             bfloat16};
  dispatch(
      x, [&] { excitation_start_cpu(args, threads); },
      [&] {
        if constexpr (kWithCuda) excitation_start_cuda(args, stream_of(stream));
      });
}

void ratio(TensorView x, TensorView gain, TensorView z, int threads, uintptr_t stream) {
  const bool bfloat16 = x.dtype == DType::kBFloat16;
  const DType dtype = bfloat16 ? DType::kBFloat16 : DType::kFloat32;
  expect(x, "x", dtype, {-1, -1});
  expect(gain, "gain", dtype, {x.shape[0], x.shape[1]});
  expect(z, "z", dtype, {x.shape[0], x.shape[1]});
  expect_same_device({&x, &gain, &z});
  const ExcitationRatio args{x.data, gain.data, z.data, x.numel(), bfloat16};
  dispatch(
      x, [&] { excitation_ratio_cpu(args, threads); },
      [&] {
        if constexpr (kWithCuda) excitation_ratio_cuda(args, stream_of(stream));
      });
}

void sum(TensorView x, TensorView gain, TensorView maps, bool clamp, int threads,
         uintptr_t stream) {
  const int64_t proposals = x.shape[0], channels = x.shape[1], cells = x.shape[2];
  const bool bfloat16 = x.dtype == DType::kBFloat16;
  const DType dtype = bfloat16 ? DType::kBFloat16 : DType::kFloat32;
  expect(x, "x", dtype, {-1, -1, -1});
  expect(gain, "gain", dtype, {proposals, channels * cells});
  expect(maps, "maps", DType::kFloat32, {proposals, cells});
  expect_same_device({&x, &gain, &maps});
  const ExcitationSum args{x.data, gain.data, maps.as<float>(), proposals, channels,
                           cells,  clamp,     bfloat16};
  dispatch(
      x, [&] { excitation_sum_cpu(args, threads); },
      [&] {
        if constexpr (kWithCuda) excitation_sum_cuda(args, stream_of(stream));
      });
}

}  // namespace

void bind_excitation(py::module_& m) {
  m.def("excitation_start", start);
  m.def("excitation_ratio", ratio);
  m.def("excitation_sum", sum);
}

}  // namespace labelpenet
