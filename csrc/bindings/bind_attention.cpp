#include "attention/attention.hpp"
#include "bindings/bindings.hpp"

namespace labelpenet {
namespace {

void project(TensorView maps, TensorView boxes, TensorView index, TensorView scaled,
             TensorView weights, TensorView out, bool mass, int threads, uintptr_t stream) {
  const int64_t proposals = maps.shape[0];
  expect(maps, "maps", DType::kFloat32, {-1, -1, -1});
  expect(boxes, "boxes", DType::kFloat32, {proposals, 4});
  expect(index, "index", DType::kInt64, {proposals});
  expect(out, "out", DType::kFloat32, {-1, -1, -1});
  if (mass) {
    expect(scaled, "scaled", DType::kFloat32, {proposals, maps.shape[1], maps.shape[2]});
    expect(weights, "weights", DType::kFloat64, {proposals, maps.shape[1] + maps.shape[2]});
  }
  expect_same_device({&maps, &boxes, &index, &scaled, &weights, &out});
  const ProjectAttention args{maps.as<const float>(),
                              boxes.as<const float>(),
                              index.as<const int64_t>(),
                              mass ? scaled.as<float>() : nullptr,
                              mass ? weights.as<double>() : nullptr,
                              out.as<float>(),
                              proposals,
                              static_cast<int>(maps.shape[1]),
                              static_cast<int>(maps.shape[2]),
                              out.shape[0],
                              static_cast<int>(out.shape[1]),
                              static_cast<int>(out.shape[2])};
  dispatch(
      out, [&] { project_attention_cpu(args, threads); },
      [&] {
        if constexpr (kWithCuda) project_attention_cuda(args, reinterpret_cast<void*>(stream));
      });
}

void accumulate(TensorView scores, TensorView boxes, TensorView index, TensorView fixed,
                TensorView unit, TensorView out, int threads, uintptr_t stream) {
  const int64_t proposals = scores.shape[0];
  expect(scores, "scores", DType::kFloat32, {-1});
  expect(fixed, "fixed", DType::kInt64, {proposals});
  expect(unit, "unit", DType::kFloat64, {1});
  expect(boxes, "boxes", DType::kFloat32, {proposals, 4});
  expect(index, "index", DType::kInt64, {proposals});
  expect(out, "out", DType::kFloat32, {-1, -1, -1});
  expect_same_device({&scores, &boxes, &index, &fixed, &unit, &out});
  const AccumulateBoxes args{scores.as<const float>(),
                             boxes.as<const float>(),
                             index.as<const int64_t>(),
                             fixed.as<int64_t>(),
                             unit.as<double>(),
                             out.as<float>(),
                             proposals,
                             out.shape[0],
                             static_cast<int>(out.shape[1]),
                             static_cast<int>(out.shape[2])};
  dispatch(
      out, [&] { accumulate_boxes_cpu(args, threads); },
      [&] {
        if constexpr (kWithCuda) accumulate_boxes_cuda(args, reinterpret_cast<void*>(stream));
      });
}

}  // namespace

void bind_attention(py::module_& m) {
  m.def("project_attention", project);
  m.def("accumulate_boxes", accumulate);
}

}  // namespace labelpenet
