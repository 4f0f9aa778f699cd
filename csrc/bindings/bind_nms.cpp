#include <pybind11/stl.h>

#include <optional>

#include "bindings/bindings.hpp"
#include "nms/nms.hpp"

namespace labelpenet {

void bind_nms(py::module_& m) {
  m.def("nms", [](const TensorView& boxes, const TensorView& scores,
                  const std::optional<TensorView>& order, const std::optional<TensorView>& labels,
                  double iou_threshold, const TensorView& keep,
                  const std::optional<TensorView>& owner, const TensorView& status,
                  const std::optional<TensorView>& mask, int threads, uintptr_t stream) {
    const int64_t n = boxes.shape[0];
    expect(boxes, "boxes", DType::kFloat32, {-1, 4});
    expect(scores, "scores", DType::kFloat32, {n});
    expect(keep, "keep", DType::kInt64, {n});
    expect(status, "status", DType::kInt64, {2});
    expect_same_device({&boxes, &scores, &keep, &status});
    NmsArgs args;
    args.boxes = boxes.as<float>();
    args.scores = scores.as<float>();
    args.keep = keep.as<int64_t>();
    args.status = status.as<int64_t>();
    args.count = n;
    args.iou_threshold = iou_threshold;
    const auto take = [&](const std::optional<TensorView>& t, const char* name,
                          std::initializer_list<int64_t> shape) -> int64_t* {
      if (!t) return nullptr;
      expect(*t, name, DType::kInt64, shape);
      expect_same_device({&boxes, &*t});
      return t->as<int64_t>();
    };
    args.order = take(order, "order", {n});
    args.labels = take(labels, "labels", {n});
    args.owner = take(owner, "owner", {n});
    args.mask = reinterpret_cast<uint64_t*>(take(mask, "mask", {n, (n + 63) / 64}));
    if (boxes.cuda && (!args.order || !args.mask))
      throw std::invalid_argument("order, mask: expected tensors");
    dispatch(
        boxes, [&] { nms_cpu(args, threads); },
        [&] {
          if constexpr (kWithCuda) nms_cuda(args, reinterpret_cast<void*>(stream));
        });
  });
}

}  // namespace labelpenet
