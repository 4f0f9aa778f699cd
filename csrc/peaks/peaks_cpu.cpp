// A map at a time, row by row: a blur along the columns is a weighted sum of whole rows.
#include <vector>

#include "core/parallel.hpp"
#include "peaks/peaks.hpp"
#include "peaks/peaks_math.hpp"
#include "peaks/peaks_simd.hpp"

namespace labelpenet {
namespace {

// Blurs along the rows: each is copied between its held edges, so that all cells are alike.
void blur_row(const PeaksArgs& a, const float* row, std::vector<float>& padded, float* out) {
  const PeakLoops& loops = LABELPENET_PICK(kPeakLoops);
  for (int i = -a.radius; i < a.width + a.radius; ++i) padded[i + a.radius] = row[held(i, a.width)];
  const float* middle = padded.data() + a.radius;
  for (int x = 0; x < a.width; ++x) out[x] = a.weights[0] * middle[x];
  for (int d = 1; d <= a.radius; ++d)
    loops.add_pair(middle - d, middle + d, a.weights[d], a.width, out);
}

void find(const PeaksArgs& a, int64_t m, std::vector<float>& padded, std::vector<float>& column) {
  const PeakLoops& loops = LABELPENET_PICK(kPeakLoops);
  const int64_t pixels = int64_t{a.height} * a.width;
  const float* map = a.maps + m * pixels;
  float* blurred = a.blurred + m * pixels;
  float* response = a.response + m * pixels;
  double total = 0.;
  for (int y = 0; y < a.height; ++y) {
    double sum = 0.;
    for (int x = 0; x < a.width; ++x) sum += map[int64_t{y} * a.width + x];
    a.sums[m * a.height + y] = sum;
    total += sum;
    blur_row(a, map + int64_t{y} * a.width, padded, blurred + int64_t{y} * a.width);
  }
  const float mean = static_cast<float>(total / static_cast<double>(pixels));
  for (int y = 0; y < a.height; ++y) {
    const int64_t row = int64_t{y} * a.width;
    for (int x = 0; x < a.width; ++x) column[x] = a.weights[0] * blurred[row + x];
    for (int d = 1; d <= a.radius; ++d)
      loops.add_pair(blurred + int64_t{held(y - d, a.height)} * a.width,
                     blurred + int64_t{held(y + d, a.height)} * a.width, a.weights[d], a.width,
                     column.data());
    loops.respond(map + row, column.data(), mean, a.width, response + row);
  }
  for (int y = 0; y < a.height; ++y)
    for (int x = 0; x < a.width; ++x)
      a.peaks[m * pixels + int64_t{y} * a.width + x] =
          is_peak(response, y, x, a.height, a.width, a.reach, a.threshold);
}

}  // namespace

void peaks_cpu(const PeaksArgs& a, int threads) {
  if (int64_t{a.height} * a.width == 0) return;
  const int64_t grain = 1 + (1 << 12) / (int64_t{a.height} * a.width);
  parallel_for(a.num_maps, grain, threads, [&](int64_t begin, int64_t end, int) {
    std::vector<float> padded(a.width + 2 * a.radius), column(a.width);
    for (int64_t m = begin; m < end; ++m) find(a, m, padded, column);
  });
}

}  // namespace labelpenet
