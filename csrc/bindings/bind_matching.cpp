#include "bindings/bindings.hpp"
#include "matching/matching.hpp"

namespace labelpenet {
namespace {

void region_sums(TensorView maps, TensorView counts, TensorView offsets, TensorView table,
                 TensorView base, TensorView sums, TensorView areas, TensorView status, int threads,
                 uintptr_t stream) {
  expect(maps, "maps", DType::kFloat32, {-1, -1, -1});
  const int64_t count = maps.shape[0], height = maps.shape[1], width = maps.shape[2];
  expect(areas, "areas", DType::kInt64, {-1});
  const int64_t regions = areas.shape[0];
  expect(counts, "counts", DType::kInt32, {-1});
  expect(offsets, "offsets", DType::kInt64, {regions + 1});
  expect(sums, "sums", DType::kFloat32, {count, regions});
  expect(status, "status", DType::kInt64, {1});
  if (maps.cuda) {
    expect(table, "table", DType::kInt64, {count, height, width});
    expect(base, "base", DType::kInt64, {count, width + 1});
  }
  expect_same_device({&maps, &counts, &offsets, &table, &base, &sums, &areas, &status});
  const RegionSumsArgs args{maps.as<const float>(),
                            counts.as<const int32_t>(),
                            offsets.as<const int64_t>(),
                            table.as<int64_t>(),
                            base.as<int64_t>(),
                            sums.as<float>(),
                            areas.as<int64_t>(),
                            status.as<int64_t>(),
                            count,
                            regions,
                            counts.shape[0],
                            static_cast<int>(height),
                            static_cast<int>(width)};
  dispatch(
      maps, [&] { region_sums_cpu(args, threads); },
      [&] {
        if constexpr (kWithCuda) region_sums_cuda(args, reinterpret_cast<void*>(stream));
      });
}

}  // namespace

void bind_matching(py::module_& m) { m.def("region_sums", region_sums); }

}  // namespace labelpenet
