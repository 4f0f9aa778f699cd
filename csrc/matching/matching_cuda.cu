// A column of a map is a thread's; a region under four maps is a warp's. Whole numbers throughout:
// nothing depends on the order of threads. Offsets and runs that leave their arrays or the image
// are held inside.
#include "core/cuda_launch.cuh"
#include "matching/matching.hpp"
#include "matching/matching_math.hpp"

namespace labelpenet {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kMaps = 4;  // of one warp: it reads the runs once for all of them

// table[m][y][x]: the sum of column x above row y. base[m][x]: the whole of column x.
__global__ void columns_kernel(RegionSumsArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= a.num_maps * a.width) return;
  const int64_t map = i / a.width, x = i % a.width;
  int64_t sum = 0;
  for (int y = 0; y < a.height; ++y) {
    const int64_t at = (map * a.height + y) * a.width + x;
    a.table[at] = sum;
    sum += to_fixed(a.maps[at]);
  }
  a.base[map * (a.width + 1) + x] = sum;
}

// A warp per map: base[m][x] becomes the sum of the columns before x.
__global__ void base_kernel(RegionSumsArgs a) {
  const int64_t map = blockIdx.x;
  const int lane = threadIdx.x;
  int64_t* base = a.base + map * (a.width + 1);
  int64_t before = 0;
  for (int first = 0; first <= a.width; first += 32) {
    const int x = first + lane;
    const int64_t own = x < a.width ? base[x] : 0;
    int64_t sum = own;
    for (int step = 1; step < 32; step *= 2) {
      const int64_t left = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += left;
    }
    if (x <= a.width) base[x] = before + sum - own;
    before += __shfl_sync(~0u, sum, 31);
  }
}

// The sum of a map's pixels before a place.
__device__ int64_t sum_before(const RegionSumsArgs& a, int64_t map, int64_t place) {
  const int64_t x = place / a.height, y = place % a.height;
  const int64_t column = a.base[map * (a.width + 1) + x];
  return y == 0 ? column : column + a.table[(map * a.height + y) * a.width + x];
}

__global__ void regions_kernel(RegionSumsArgs a) {
  const int lane = threadIdx.x % 32;
  const int64_t region = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (region >= a.regions) return;  // a whole warp
  const int64_t first_map = int64_t{blockIdx.y} * kMaps;
  const int64_t pixels = int64_t{a.height} * a.width;
  const int64_t begin = inside(a.offsets[region], a.runs);
  const int64_t end = inside(a.offsets[region + 1], a.runs);
  int64_t sums[kMaps] = {}, area = 0, place = 0;
  for (int64_t from = begin; from < end; from += 32) {
    const int64_t run = from + lane;
    const int64_t own = run < end && a.counts[run] > 0 ? a.counts[run] : 0;
    int64_t sum = own;
    for (int step = 1; step < 32; step *= 2) {
      const int64_t left = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += left;
    }
    if (run < end && (run - begin) % 2 == 1) {
      const int64_t low = inside(place + sum - own, pixels), high = inside(place + sum, pixels);
      area += high - low;
      for (int m = 0; m < kMaps && first_map + m < a.num_maps; ++m)
        sums[m] += sum_before(a, first_map + m, high) - sum_before(a, first_map + m, low);
    }
    place += __shfl_sync(~0u, sum, 31);
  }
  for (int step = 16; step > 0; step /= 2) {
    area += __shfl_xor_sync(~0u, area, step);
    for (int m = 0; m < kMaps; ++m) sums[m] += __shfl_xor_sync(~0u, sums[m], step);
  }
  if (lane != 0) return;
  if (blockIdx.y == 0) a.areas[region] = area;
  for (int m = 0; m < kMaps && first_map + m < a.num_maps; ++m)
    a.sums[(first_map + m) * a.regions + region] = from_fixed(sums[m]);
}

}  // namespace

void region_sums_cuda(const RegionSumsArgs& args, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  if (args.num_maps > 0) {
    const int64_t columns = args.num_maps * args.width;
    LABELPENET_LAUNCH(columns_kernel, blocks_for(columns, kThreads), kThreads, 0, s)(args);
    cuda_check_launch("region_sums: columns");
    LABELPENET_LAUNCH(base_kernel, blocks_for(args.num_maps, 1), 32, 0, s)(args);
    cuda_check_launch("region_sums: base");
  }
  if (args.regions == 0) return;
  const int64_t groups = args.num_maps > 0 ? (args.num_maps + kMaps - 1) / kMaps : 1;
  if (groups > kMaxGridYZ)
    throw std::invalid_argument("maps: a device takes at most " +
                                std::to_string(kMaxGridYZ * kMaps));
  LABELPENET_LAUNCH(regions_kernel,
                    dim3(blocks_for(args.regions, kWarps), static_cast<unsigned>(groups)), kThreads,
                    0, s)(args);
  cuda_check_launch("region_sums: regions");
}

}  // namespace labelpenet
