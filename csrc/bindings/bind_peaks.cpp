#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

#include "bindings/bindings.hpp"
#include "peaks/peaks.hpp"

namespace labelpenet {
namespace {

void peaks(TensorView maps, const std::vector<double>& weights, int reach, double threshold,
           TensorView blurred, TensorView sums, TensorView response, TensorView found, int threads,
           uintptr_t stream) {
  expect(maps, "maps", DType::kFloat32, {-1, -1, -1});
  const int64_t count = maps.shape[0], height = maps.shape[1], width = maps.shape[2];
  expect(blurred, "blurred", DType::kFloat32, {count, height, width});
  expect(response, "response", DType::kFloat32, {count, height, width});
  expect(found, "peaks", DType::kBool, {count, height, width});
  expect(sums, "sums", DType::kFloat64, {count, height});
  expect_same_device({&maps, &blurred, &sums, &response, &found});
  if (weights.empty() || weights.size() > kMaxPeakRadius + 1 || reach < 0)
    throw std::invalid_argument("weights: expected one per distance");
  PeaksArgs args{};
  args.maps = maps.as<const float>();
  args.response = response.as<float>();
  args.peaks = found.as<bool>();
  args.blurred = blurred.as<float>();
  args.sums = sums.as<double>();
  args.num_maps = count;
  args.height = static_cast<int>(height);
  args.width = static_cast<int>(width);
  args.radius = static_cast<int>(weights.size()) - 1;
  std::copy(weights.begin(), weights.end(), args.weights);
  args.reach = reach;
  args.threshold = static_cast<float>(threshold);
  dispatch(
      maps, [&] { peaks_cpu(args, threads); },
      [&] {
        if constexpr (kWithCuda) peaks_cuda(args, reinterpret_cast<void*>(stream));
      });
}

}  // namespace

void bind_peaks(py::module_& m) { m.def("peaks", peaks); }

}  // namespace labelpenet
