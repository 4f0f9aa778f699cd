#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "attention/attention.hpp"
#include "attention/attention_simd.hpp"
#include "core/parallel.hpp"

namespace labelpenet {
namespace {

// Output that one thread fills at a time, all boxes one after the other: it stays in the
// second-level cache meanwhile.
constexpr int kTileBytes = 256 << 10;

int tile_rows(int height, int width) {
  return std::clamp(kTileBytes / (4 * width), std::min(8, height), height);
}

// The boxes of every map, in their order.
struct Groups {
  std::vector<int64_t> boxes, begin;
  Groups(const int64_t* index, int64_t proposals, int64_t num_maps)
      : boxes(proposals), begin(num_maps + 1) {
    for (int64_t i = 0; i < proposals; ++i) ++begin[index[i] + 1];
    for (int64_t m = 0; m < num_maps; ++m) begin[m + 1] += begin[m];
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    for (int64_t i = 0; i < proposals; ++i) boxes[next[index[i]]++] = i;
  }
};

// Calls body(map, first row, last row + 1, thread) for tiles that cover all maps.
template <class Body>
void for_tiles(int64_t num_maps, int height, int width, int threads, const Body& body) {
  const int rows = tile_rows(height, width), tiles = (height + rows - 1) / rows;
  parallel_for(num_maps * tiles, 1, threads, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t t = begin; t < end; ++t) {
      const int y = static_cast<int>(t % tiles) * rows;
      body(t / tiles, y, std::min(y + rows, height), thread);
    }
  });
}

void scale_to_mass(const ProjectAttention& a, int64_t i) {
  const float* box = a.boxes + 4 * i;
  const Axis x = axis_of(box[0], box[2], a.cells_x, a.width);
  const Axis y = axis_of(box[1], box[3], a.cells_y, a.height);
  const float* map = a.maps + i * a.cells_y * a.cells_x;
  float* scaled = a.scaled + i * a.cells_y * a.cells_x;
  double* weight_y = a.weights + i * (a.cells_y + a.cells_x);
  double* weight_x = weight_y + a.cells_y;
  for (int r = 0; r < a.cells_y; ++r) weight_y[r] = cell_weight(y, r, a.cells_y);
  for (int c = 0; c < a.cells_x; ++c) weight_x[c] = cell_weight(x, c, a.cells_x);
  const double factor = mass_factor(map, weight_y, weight_x, a.cells_y, a.cells_x);
  for (int r = 0; r < a.cells_y; ++r)
    for (int c = 0; c < a.cells_x; ++c)
      *scaled++ = scale_cell(*map++, weight_y[r], weight_x[c], factor);
}

// One thread's memory to draw in. Made before the threads start: none may throw.
class Board {
 public:
  Board(int rows, int cells_y, int width)
      : pitch_((width + kPixelBlock - 1) / kPixelBlock * kPixelBlock), rows_(rows) {
    const int64_t expanded = rows * pitch_, fraction = expanded + cells_y * pitch_;
    const int64_t cell = fraction + pitch_, size = cell + pitch_;
    memory_.reset(static_cast<float*>(::operator new(4 * size, kAlignment)));
    float* memory = memory_.get();
    board_ = {
        memory, memory + expanded, memory + fraction, reinterpret_cast<int*>(memory + cell), 0,
        pitch_};
  }

  DrawingBoard cleared(int first_row) const {
    std::fill_n(board_.pixels, rows_ * pitch_, 0.f);
    DrawingBoard board = board_;
    board.first_row = first_row;
    return board;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Delete {
    void operator()(float* memory) const { ::operator delete(memory, kAlignment); }
  };
  int64_t pitch_, rows_;
  std::unique_ptr<float, Delete> memory_;
  DrawingBoard board_;
};

// What happens to the row of steps at one pixel row: a box begins or ends.
struct Event {
  int row;
  int64_t box;
  bool begins;
};

}  // namespace

void project_attention_cpu(const ProjectAttention& args, int threads) {
  const AttentionLoops& loops = LABELPENET_PICK(kAttentionLoops);
  const int64_t cells = int64_t{args.cells_y} * args.cells_x;
  const float* maps = args.maps;
  if (args.scaled) {
    parallel_for(args.proposals, 64, threads, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) scale_to_mass(args, i);
    });
    maps = args.scaled;
  }
  const Groups groups(args.index, args.proposals, args.num_maps);
  std::vector<Board> boards;
  for (int t = 0; t < std::max(1, threads); ++t)
    boards.emplace_back(tile_rows(args.height, args.width), args.cells_y, args.width);
  for_tiles(args.num_maps, args.height, args.width, threads,
            [&](int64_t map, int y_begin, int y_end, int thread) {
              const DrawingBoard board = boards[thread].cleared(y_begin);
              for (int64_t g = groups.begin[map]; g < groups.begin[map + 1]; ++g) {
                const int64_t i = groups.boxes[g];
                const float* box = args.boxes + 4 * i;
                const Axis x = axis_of(box[0], box[2], args.cells_x, args.width);
                Axis y = axis_of(box[1], box[3], args.cells_y, args.height);
                y.begin = std::max(y.begin, y_begin);
                y.end = std::min(y.end, y_end);
                if (x.begin < x.end && y.begin < y.end)
                  loops.draw({maps + i * cells, y, x, args.cells_y, args.cells_x}, board);
              }
              for (int y = y_begin; y < y_end; ++y)
                std::copy_n(board.pixels + (y - y_begin) * board.pitch, args.width,
                            args.out + (map * args.height + y) * args.width);
            });
}

// A scan line: `steps` holds, per column, by how much the row rises there; boxes that begin or end
// at a row change two steps each, so the cost does not depend on the area of boxes.
void accumulate_boxes_cpu(const AccumulateBoxes& args, int threads) {
  const AttentionLoops& loops = LABELPENET_PICK(kAttentionLoops);
  float largest = 0;
  for (int64_t i = 0; i < args.proposals; ++i)
    largest = std::max(largest, score_magnitude(args.scores[i]));
  *args.unit = score_unit(largest, args.proposals);
  for (int64_t i = 0; i < args.proposals; ++i) args.fixed[i] = in_units(args.scores[i], *args.unit);
  const Groups groups(args.index, args.proposals, args.num_maps);
  const int width = args.width;
  for_tiles(
      args.num_maps, args.height, width, threads, [&](int64_t map, int y_begin, int y_end, int) {
        std::vector<Event> events;
        for (int64_t g = groups.begin[map]; g < groups.begin[map + 1]; ++g) {
          const int64_t i = groups.boxes[g];
          const int begin = std::max(y_begin, first_pixel(args.boxes[4 * i + 1], args.height));
          const int end = std::min(y_end, first_pixel(args.boxes[4 * i + 3], args.height));
          if (begin >= end) continue;
          events.push_back({begin, i, true});
          if (end < y_end) events.push_back({end, i, false});
        }
        std::sort(events.begin(), events.end(),
                  [](const Event& a, const Event& b) { return a.row < b.row; });
        std::vector<int64_t> steps(int64_t{width} + 1);
        float* row = args.out + (map * args.height + y_begin) * width;
        auto event = events.begin();
        for (int y = y_begin; y < y_end; ++y, row += width) {
          if (y > y_begin && (event == events.end() || event->row > y)) {
            std::copy_n(row - width, width, row);
            continue;
          }
          for (; event != events.end() && event->row == y; ++event) {
            const float* box = args.boxes + 4 * event->box;
            const int begin = first_pixel(box[0], width), end = first_pixel(box[2], width);
            if (begin >= end) continue;
            const int64_t score = args.fixed[event->box];
            steps[begin] += event->begins ? score : -score;
            steps[end] -= event->begins ? score : -score;
          }
          loops.integrate(steps.data(), *args.unit, width, row);
        }
      });
}

}  // namespace labelpenet
