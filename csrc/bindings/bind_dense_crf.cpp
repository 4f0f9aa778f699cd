#include "bindings/bindings.hpp"
#include "dense_crf/dense_crf.hpp"

namespace labelpenet {
namespace {

// potentials: (sxy, srgb, compat) of each kernel, one after the other
DenseCrfArgs make_args(const TensorView& image, const TensorView& unary,
                       const py::sequence& potentials, int iterations, int normalization) {
  expect(image, "image", DType::kUInt8, {-1, -1, 3});
  expect(unary, "unary", DType::kFloat32, {-1, -1, image.shape[0], image.shape[1]});
  if (potentials.size() > 3 * kMaxCrfKernels || potentials.size() % 3 || normalization < 0 ||
      normalization > 3 || unary.shape[1] < 2)
    throw std::invalid_argument("dense_crf: bad potentials, normalization or number of labels");
  DenseCrfArgs args{};
  args.image = image.as<const uint8_t>();
  args.unary = unary.as<const float>();
  args.maps = unary.shape[0];
  args.labels = unary.shape[1];
  args.height = image.shape[0];
  args.width = image.shape[1];
  args.iterations = iterations;
  args.normalization = static_cast<CrfNormalization>(normalization);
  for (size_t i = 0; i < potentials.size(); i += 3)
    args.kernel[args.kernels++] = {potentials[i].cast<float>(), potentials[i + 1].cast<float>(),
                                   potentials[i + 2].cast<float>()};
  return args;
}

}  // namespace

void bind_dense_crf(py::module_& m) {
  // Bytes of scratch memory that dense_crf takes on the device of `image`.
  m.def("dense_crf_scratch", [](const TensorView& image, const TensorView& unary,
                                const py::sequence& potentials, int iterations) {
    int64_t bytes = 0;
    [[maybe_unused]] const DenseCrfArgs args = make_args(image, unary, potentials, iterations, 0);
    if constexpr (kWithCuda)
      if (image.cuda) bytes = dense_crf_scratch_cuda(args);
    return bytes;
  });
  m.def("dense_crf", [](const TensorView& image, const TensorView& unary,
                        const TensorView& probability, const TensorView& scratch,
                        const py::sequence& potentials, int iterations, int normalization,
                        int threads, uintptr_t stream) {
    DenseCrfArgs args = make_args(image, unary, potentials, iterations, normalization);
    expect(probability, "probability", DType::kFloat32,
           {unary.shape[0], unary.shape[1], image.shape[0], image.shape[1]});
    expect(scratch, "scratch", DType::kUInt8, {-1});
    expect_same_device({&image, &unary, &probability, &scratch});
    args.probability = probability.as<float>();
    dispatch(
        image, [&] { dense_crf_cpu(args, threads); },
        [&] {
          if constexpr (kWithCuda) {
            if (scratch.numel() < dense_crf_scratch_cuda(args))
              throw std::invalid_argument("scratch: too small");
            dense_crf_cuda(args, scratch.as<unsigned char>(), reinterpret_cast<void*>(stream));
          }
        });
  });
}

}  // namespace labelpenet
