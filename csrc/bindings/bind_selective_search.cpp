#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

#include "bindings/bindings.hpp"
#include "selective_search/selective_search.hpp"
#include "selective_search/stages.hpp"

namespace labelpenet {
namespace {

// Sizes are known only afterwards, so the results go back as bytes, not into given tensors.
template <class T>
py::bytearray to_bytes(const std::vector<T>& values) {
  return py::bytearray(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

ColorSpace color_space(int number) {
  if (number < 0 || number > static_cast<int>(ColorSpace::kIntensity))
    throw std::invalid_argument("color space: unknown number");
  return static_cast<ColorSpace>(number);
}

Planes planes_from(const TensorView& t) {
  expect(t, "planes", DType::kUInt8, {-1, -1, -1});
  if (t.numel() == 0 || t.shape[0] == 2 || t.shape[0] > 3)
    throw std::invalid_argument("planes: expected 1 or 3 of at least one pixel");
  Planes planes{static_cast<int>(t.shape[0]), static_cast<int>(t.shape[1]),
                static_cast<int>(t.shape[2]), std::vector<uint8_t>(t.numel())};
  std::copy_n(t.as<uint8_t>(), t.numel(), planes.data.data());
  return planes;
}

py::tuple search(const TensorView& image, const std::vector<int>& color_spaces,
                 const std::vector<float>& ks, const std::vector<int>& similarities, int min_size,
                 int min_side, uint64_t seed, bool regions, int threads) {
  expect(image, "image", DType::kUInt8, {-1, -1, 3});
  if (image.numel() == 0 || image.numel() / 3 > kMaxPixels)
    throw std::invalid_argument("image: empty or too large");
  SelectiveSearchArgs args;
  args.image = image.as<uint8_t>();
  args.height = static_cast<int>(image.shape[0]);
  args.width = static_cast<int>(image.shape[1]);
  for (const int space : color_spaces) args.color_spaces.push_back(color_space(space));
  args.ks = ks;
  args.similarities = similarities;
  args.min_size = min_size;
  args.min_side = min_side;
  args.seed = seed;
  args.regions = regions;
  Proposals proposals;
  {
    py::gil_scoped_release release;
    proposals = selective_search_cpu(args, threads);
  }
  return py::make_tuple(to_bytes(proposals.boxes), to_bytes(proposals.counts),
                        to_bytes(proposals.offsets));
}

// ---- single stages, for tests ------------------------------------------------------------------

py::bytearray color(const TensorView& image, int space) {
  expect(image, "image", DType::kUInt8, {-1, -1, 3});
  return to_bytes(convert_color(image.as<uint8_t>(), static_cast<int>(image.shape[0]),
                                static_cast<int>(image.shape[1]), color_space(space))
                      .data);
}

int segment(const TensorView& planes, float k, int min_size, const TensorView& labels) {
  expect(labels, "labels", DType::kInt32, {planes.shape[1], planes.shape[2]});
  return segment_graph(sort_edges(planes_from(planes)), k, min_size, labels.as<int32_t>());
}

py::tuple group(const TensorView& planes_view, const TensorView& labels, int count,
                int similarity) {
  const Planes planes = planes_from(planes_view);
  expect(labels, "labels", DType::kInt32, {planes.height, planes.width});
  for (int64_t i = 0; i < planes.pixels(); ++i)
    if (labels.as<int32_t>()[i] < 0 || labels.as<int32_t>()[i] >= count)
      throw std::invalid_argument("labels: expected values in [0, count)");
  const Hierarchy tree = group_regions(
      describe_regions(planes, texture_slots(planes), labels.as<int32_t>(), count), similarity);
  return py::make_tuple(to_bytes(tree.children), to_bytes(tree.boxes));
}

}  // namespace

void bind_selective_search(py::module_& m) {
  m.def("selective_search", &search);
  m.def("selective_search_color", &color);
  m.def("selective_search_segment", &segment);
  m.def("selective_search_group", &group);
}

}  // namespace labelpenet
