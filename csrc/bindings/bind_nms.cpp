#include <pybind11/stl.h>

#include <optional>

#include "bindings/bindings.hpp"
#include "nms/nms.hpp"

namespace labelpenet {

namespace {

using Maybe = std::optional<TensorView>;

void on_cpu(const TensorView& boxes, const TensorView& scores, const Maybe& labels,
            double iou_threshold, const TensorView& keep, const Maybe& owner,
            const TensorView& status, int threads) {
  const int64_t n = boxes.shape[0];
  expect(boxes, "boxes", DType::kFloat32, {-1, 4});
  expect(scores, "scores", DType::kFloat32, {n});
  expect(keep, "keep", DType::kInt64, {n});
  expect(status, "status", DType::kInt64, {2});
  if (labels) expect(*labels, "labels", DType::kInt64, {n});
  if (owner) expect(*owner, "owner", DType::kInt64, {n});
  for (const TensorView* t : {&boxes, &scores, &keep, &status})
    if (t->cuda) throw std::invalid_argument("nms: expected tensors on the CPU");
  NmsArgs args;
  args.boxes = boxes.as<float>();
  args.scores = scores.as<float>();
  args.labels = labels ? labels->as<int64_t>() : nullptr;
  args.keep = keep.as<int64_t>();
  args.owner = owner ? owner->as<int64_t>() : nullptr;
  args.status = status.as<int64_t>();
  args.count = n;
  args.iou_threshold = iou_threshold;
  py::gil_scoped_release release;
  nms_cpu(args, threads);
}

void on_device(const TensorView& boxes, const TensorView& scores, const TensorView& order,
               const TensorView& by_score, const Maybe& rank_labels, double iou_threshold,
               const Maybe& keep, const TensorView& owner, const TensorView& status,
               const TensorView& mask, const TensorView& best, uintptr_t stream) {
  const int64_t n = boxes.shape[0];
  expect(boxes, "boxes", DType::kFloat32, {-1, 4});
  expect(scores, "scores", DType::kFloat32, {n});
  expect(order, "order", DType::kInt64, {n});
  expect(by_score, "by_score", DType::kInt64, {n});
  expect(owner, "owner", DType::kInt64, {n});
  expect(status, "status", DType::kInt64, {2});
  expect(mask, "mask", DType::kInt64, {n, (n + 63) / 64});
  expect(best, "best", DType::kInt32, {n});
  expect_same_device({&boxes, &scores, &order, &by_score, &owner, &status, &mask, &best});
  for (const Maybe* t : {&rank_labels, &keep}) {
    if (!*t) continue;
    expect(**t, t == &keep ? "keep" : "rank_labels", DType::kInt64, {n});
    expect_same_device({&boxes, &**t});
  }
  NmsArgs args;
  args.boxes = boxes.as<float>();
  args.scores = scores.as<float>();
  args.order = order.as<int64_t>();
  args.by_score = by_score.as<int64_t>();
  args.rank_labels = rank_labels ? rank_labels->as<int64_t>() : nullptr;
  args.keep = keep ? keep->as<int64_t>() : nullptr;
  args.owner = owner.as<int64_t>();
  args.status = status.as<int64_t>();
  args.mask = mask.as<uint64_t>();
  args.best = best.as<int32_t>();
  args.count = n;
  args.iou_threshold = iou_threshold;
  dispatch(
      boxes, [] { throw std::invalid_argument("nms: expected tensors on a device"); },
      [&] {
        if constexpr (kWithCuda) nms_cuda(args, reinterpret_cast<void*>(stream));
      });
}

}  // namespace

void bind_nms(py::module_& m) {
  m.def("nms", on_cpu);
  m.def("nms_device", on_device);
}

}  // namespace labelpenet
