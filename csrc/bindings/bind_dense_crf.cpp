#include "bindings/bindings.hpp"
#include "dense_crf/dense_crf.hpp"

namespace labelpenet {

void bind_dense_crf(py::module_& m) {
  // potentials: (sxy, srgb, compat) of each kernel, one after the other
  m.def("dense_crf", [](const TensorView& image, const TensorView& unary,
                        const TensorView& probability, const py::sequence& potentials,
                        int iterations, int normalization, int threads, uintptr_t stream) {
    expect(image, "image", DType::kUInt8, {-1, -1, 3});
    expect(unary, "unary", DType::kFloat32, {-1, -1, image.shape[0], image.shape[1]});
    expect(probability, "probability", DType::kFloat32,
           {unary.shape[0], unary.shape[1], image.shape[0], image.shape[1]});
    expect_same_device({&image, &unary, &probability});
    if (potentials.size() > 3 * kMaxCrfKernels || potentials.size() % 3 || normalization < 0 ||
        normalization > 3)
      throw std::invalid_argument("dense_crf: unknown normalization or too many kernels");
    DenseCrfArgs args{};
    args.image = image.as<const uint8_t>();
    args.unary = unary.as<const float>();
    args.probability = probability.as<float>();
    args.maps = unary.shape[0];
    args.labels = unary.shape[1];
    args.height = image.shape[0];
    args.width = image.shape[1];
    args.iterations = iterations;
    args.normalization = static_cast<CrfNormalization>(normalization);
    for (size_t i = 0; i < potentials.size(); i += 3)
      args.kernel[args.kernels++] = {potentials[i].cast<float>(), potentials[i + 1].cast<float>(),
                                     potentials[i + 2].cast<float>()};
    (void)stream;
    dispatch(image, [&] { dense_crf_cpu(args, threads); }, [] {});
  });
}

}  // namespace labelpenet
