#include <pybind11/stl.h>

#include <optional>

#include "bindings/bindings.hpp"
#include "roi_pool/roi_pool.hpp"

namespace labelpenet {
namespace {

// CPU loops exist for float and double; the CUDA kernels also take the 16-bit floats.
void expect_features(const TensorView& t, const char* name) {
  const bool wide = t.dtype == DType::kFloat32 || t.dtype == DType::kFloat64;
  const bool narrow = t.dtype == DType::kFloat16 || t.dtype == DType::kBFloat16;
  if (!wide && !(t.cuda && narrow))
    throw std::invalid_argument(std::string(name) + ": unexpected dtype");
}

}  // namespace

void bind_roi_pool(py::module_& m) {
  m.def("roi_pool",
        [](const TensorView& features, const TensorView& boxes, double spatial_scale,
           const TensorView& pooled, const std::optional<TensorView>& argmax,
           const std::optional<TensorView>& cells_first, int threads, uintptr_t stream) {
          expect_features(features, "features");
          expect(features, "features", features.dtype, {-1, -1, -1, -1});
          const bool wide = features.dtype == DType::kFloat64;
          expect(boxes, "boxes", wide ? DType::kFloat64 : DType::kFloat32, {-1, 5});
          expect(pooled, "pooled", features.dtype, {boxes.shape[0], features.shape[1], -1, -1});
          expect_same_device({&features, &boxes, &pooled});
          RoiPoolArgs args;
          args.dtype = features.dtype;
          args.features = features.data;
          args.boxes = boxes.data;
          args.pooled = pooled.data;
          args.images = features.shape[0];
          args.channels = features.shape[1];
          args.height = features.shape[2];
          args.width = features.shape[3];
          args.rois = boxes.shape[0];
          args.pooled_height = static_cast<int>(pooled.shape[2]);
          args.pooled_width = static_cast<int>(pooled.shape[3]);
          args.spatial_scale = spatial_scale;
          if (argmax) {
            expect(*argmax, "argmax", DType::kInt32,
                   {pooled.shape[0], pooled.shape[1], pooled.shape[2], pooled.shape[3]});
            expect_same_device({&features, &*argmax});
            args.argmax = argmax->as<int32_t>();
          }
          if (features.cuda) {
            if (!cells_first) throw std::invalid_argument("cells_first: expected a tensor");
            expect(*cells_first, "cells_first", features.dtype,
                   {args.images, args.height * args.width, args.channels});
            expect_same_device({&features, &*cells_first});
            args.cells_first = cells_first->data;
          }
          dispatch(
              features, [&] { roi_pool_cpu(args, threads); },
              [&] {
                if constexpr (kWithCuda) roi_pool_cuda(args, reinterpret_cast<void*>(stream));
              });
        });

  m.def("roi_pool_backward",
        [](const TensorView& grad_pooled, const TensorView& argmax, const TensorView& image_of,
           const TensorView& grad_features, int threads, uintptr_t stream) {
          expect_features(grad_pooled, "grad_pooled");
          expect(grad_pooled, "grad_pooled", grad_pooled.dtype, {-1, -1, -1, -1});
          const int64_t* shape = grad_pooled.shape;
          expect(argmax, "argmax", DType::kInt32, {shape[0], shape[1], shape[2], shape[3]});
          expect(image_of, "image_of", DType::kInt32, {shape[0]});
          const bool wide = grad_pooled.dtype == DType::kFloat64;
          expect(grad_features, "grad_features", wide ? DType::kFloat64 : DType::kFloat32,
                 {-1, shape[1], -1, -1});
          expect_same_device({&grad_pooled, &argmax, &image_of, &grad_features});
          RoiPoolBackwardArgs args;
          args.dtype = grad_pooled.dtype;
          args.grad_pooled = grad_pooled.data;
          args.argmax = argmax.as<int32_t>();
          args.image_of = image_of.as<int32_t>();
          args.grad_features = grad_features.data;
          args.images = grad_features.shape[0];
          args.channels = shape[1];
          args.cells = grad_features.shape[2] * grad_features.shape[3];
          args.rois = shape[0];
          args.bins = shape[2] * shape[3];
          dispatch(
              grad_pooled, [&] { roi_pool_backward_cpu(args, threads); },
              [&] {
                if constexpr (kWithCuda)
                  roi_pool_backward_cuda(args, reinterpret_cast<void*>(stream));
              });
        });
}

}  // namespace labelpenet
