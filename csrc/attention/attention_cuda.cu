#include "attention/attention.hpp"
#include "attention/attention_math.hpp"
#include "core/cuda_launch.cuh"

namespace labelpenet {
namespace {

// A block owns a square of one output map and adds the boxes that touch it in their order: no
// atomics, the same bits in every run. A warp is a row of the square, a thread kRows pixels.
constexpr int kTile = 32, kThreads = 256, kWarps = kThreads / 32, kRows = kTile / kWarps;
constexpr int kFixThreads = 512;

struct Tile {
  int64_t map;
  int x, y;
};

struct TileBox {
  int64_t i;
  Axis x, y;
};

int64_t tiles_across(int size) { return (size + kTile - 1) / kTile; }

__device__ Tile tile_of_block(int height, int width) {
  const int64_t across = (width + kTile - 1) / kTile, down = (height + kTile - 1) / kTile;
  const int64_t block = blockIdx.x;
  return {block / (across * down), static_cast<int>(block % across) * kTile,
          static_cast<int>(block / across % down) * kTile};
}

// x - x is 0 for finite x, else NaN
__device__ bool finite(float x) { return x - x == 0.f; }

__device__ bool inside(const Axis& axis, int pixel) {
  return axis.begin <= pixel && pixel < axis.end;
}

// Calls visit(box) for the boxes of a tile, with all threads and in the order of the boxes. Each
// thread tests one of kThreads boxes; those that touch the tile are packed into shared memory.
template <class Visit>
__device__ void for_boxes(const float* boxes, const int64_t* index, int64_t proposals, int cells_y,
                          int cells_x, int height, int width, const Tile& tile,
                          const Visit& visit) {
  __shared__ TileBox found[kThreads];
  __shared__ int found_by_warp[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t base = 0; base < proposals; base += kThreads) {
    TileBox box{base + threadIdx.x, {}, {}};
    bool touches = box.i < proposals && index[box.i] == tile.map;
    if (touches) {
      const float* edge = boxes + 4 * box.i;
      touches = finite(edge[0]) && finite(edge[1]) && finite(edge[2]) && finite(edge[3]);
      box.x = axis_of(edge[0], edge[2], cells_x, width);
      box.y = axis_of(edge[1], edge[3], cells_y, height);
      touches = touches && box.x.begin < box.x.end && box.y.begin < box.y.end &&
                box.x.begin < tile.x + kTile && box.x.end > tile.x &&
                box.y.begin < tile.y + kTile && box.y.end > tile.y;
    }
    const unsigned vote = __ballot_sync(~0u, touches);
    if (lane == 0) found_by_warp[warp] = __popc(vote);
    __syncthreads();
    int at = __popc(vote & ((1u << lane) - 1u)), count = 0;
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) at += found_by_warp[w];
      count += found_by_warp[w];
    }
    if (touches) found[at] = box;
    __syncthreads();
    for (int k = 0; k < count; ++k) visit(found[k]);  // done before the next round's first barrier
  }
}

__global__ void project_kernel(ProjectAttention a) {
  const Tile tile = tile_of_block(a.height, a.width);
  const int px = tile.x + threadIdx.x % 32, py = tile.y + threadIdx.x / 32;
  float sum[kRows] = {};
  for_boxes(a.boxes, a.index, a.proposals, a.cells_y, a.cells_x, a.height, a.width, tile,
            [&](const TileBox& box) {
              if (!inside(box.x, px)) return;
              const float* map = a.maps + box.i * a.cells_y * a.cells_x;
              const Sample x = sample(box.x, px, a.cells_x);
              for (int k = 0; k < kRows; ++k) {
                if (!inside(box.y, py + k * kWarps)) continue;
                const Sample y = sample(box.y, py + k * kWarps, a.cells_y);
                const float* above = map + int64_t{y.cell} * a.cells_x;
                const float* below = map + int64_t{y.next} * a.cells_x;
                sum[k] += lerp(lerp(above[x.cell], above[x.next], x.fraction),
                               lerp(below[x.cell], below[x.next], x.fraction), y.fraction);
              }
            });
  for (int k = 0; k < kRows; ++k)
    if (px < a.width && py + k * kWarps < a.height)
      a.out[(tile.map * a.height + py + k * kWarps) * a.width + px] = sum[k];
}

// One block: the largest magnitude, the unit that follows from it, and every score in units.
__global__ void fix_scores_kernel(AccumulateBoxes a) {
  __shared__ float by_warp[kFixThreads / 32];
  float largest = 0.f;
  for (int64_t i = threadIdx.x; i < a.proposals; i += kFixThreads)
    largest = fmaxf(largest, score_magnitude(a.scores[i]));
  for (int step = 16; step > 0; step /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  if (threadIdx.x % 32 == 0) by_warp[threadIdx.x / 32] = largest;
  __syncthreads();
  for (int w = 0; w < kFixThreads / 32; ++w) largest = fmaxf(largest, by_warp[w]);
  const double unit = score_unit(largest, a.proposals);
  if (threadIdx.x == 0) *a.unit = unit;
  for (int64_t i = threadIdx.x; i < a.proposals; i += kFixThreads)
    a.fixed[i] = in_units(a.scores[i], unit);
}

__global__ void accumulate_kernel(AccumulateBoxes a) {
  const Tile tile = tile_of_block(a.height, a.width);
  const int px = tile.x + threadIdx.x % 32, py = tile.y + threadIdx.x / 32;
  const double unit = *a.unit;
  int64_t sum[kRows] = {};
  for_boxes(a.boxes, a.index, a.proposals, 1, 1, a.height, a.width, tile, [&](const TileBox& box) {
    if (!inside(box.x, px)) return;
    const int64_t score = a.fixed[box.i];
    for (int k = 0; k < kRows; ++k)
      if (inside(box.y, py + k * kWarps)) sum[k] += score;
  });
  for (int k = 0; k < kRows; ++k)
    if (px < a.width && py + k * kWarps < a.height)
      a.out[(tile.map * a.height + py + k * kWarps) * a.width + px] =
          static_cast<float>(static_cast<double>(sum[k]) * unit);
}

// One block per proposal. One thread adds up the few cells, in the order of the CPU.
__global__ void mass_kernel(ProjectAttention a) {
  __shared__ double factor;
  const int64_t i = blockIdx.x;
  const int cells_y = a.cells_y, cells_x = a.cells_x;
  const float* box = a.boxes + 4 * i;
  const float* map = a.maps + i * cells_y * cells_x;
  float* scaled = a.scaled + i * cells_y * cells_x;
  double* weight_y = a.weights + i * (cells_y + cells_x);
  double* weight_x = weight_y + cells_y;
  const Axis x = axis_of(box[0], box[2], cells_x, a.width);
  const Axis y = axis_of(box[1], box[3], cells_y, a.height);
  for (int c = threadIdx.x; c < cells_y + cells_x; c += blockDim.x)
    weight_y[c] = c < cells_y ? cell_weight(y, c, cells_y) : cell_weight(x, c - cells_y, cells_x);
  __syncthreads();
  if (threadIdx.x == 0) factor = mass_factor(map, weight_y, weight_x, cells_y, cells_x);
  __syncthreads();
  for (int64_t c = threadIdx.x; c < int64_t{cells_y} * cells_x; c += blockDim.x)
    scaled[c] = scale_cell(map[c], weight_y[c / cells_x], weight_x[c % cells_x], factor);
}

}  // namespace

void project_attention_cuda(const ProjectAttention& args, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  ProjectAttention drawn = args;
  if (args.scaled && args.proposals > 0) {
    LABELPENET_LAUNCH(mass_kernel, blocks_for(args.proposals, 1), 64, 0, s)(args);
    cuda_check_launch("project_attention: mass");
    drawn.maps = args.scaled;
  }
  const int64_t tiles = args.num_maps * tiles_across(args.height) * tiles_across(args.width);
  if (tiles == 0) return;
  LABELPENET_LAUNCH(project_kernel, blocks_for(tiles, 1), kThreads, 0, s)(drawn);
  cuda_check_launch("project_attention");
}

void accumulate_boxes_cuda(const AccumulateBoxes& args, void* stream) {
  const int64_t tiles = args.num_maps * tiles_across(args.height) * tiles_across(args.width);
  if (tiles == 0) return;
  const auto s = static_cast<cudaStream_t>(stream);
  LABELPENET_LAUNCH(fix_scores_kernel, 1, kFixThreads, 0, s)(args);
  cuda_check_launch("accumulate_boxes: fix_scores");
  LABELPENET_LAUNCH(accumulate_kernel, blocks_for(tiles, 1), kThreads, 0, s)(args);
  cuda_check_launch("accumulate_boxes");
}

}  // namespace labelpenet
