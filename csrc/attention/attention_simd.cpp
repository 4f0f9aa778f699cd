// The same operations in the same order on every instruction set: the same bits on all.
#include "attention/attention_simd.hpp"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace labelpenet {
namespace {

// The columns that a box is drawn in: whole blocks, of which [begin, end) lies inside the box.
struct Columns {
  int first, count;  // count is a multiple of kPixelBlock
  int begin, end;    // relative to first
};

Columns columns_of(const Axis& x) {
  const int first = x.begin / kPixelBlock * kPixelBlock;
  const int count = (x.end - first + kPixelBlock - 1) / kPixelBlock * kPixelBlock;
  return {first, count, x.begin - first, x.end - first};
}

// A row of cells as pixels, to[i] = lerp(row[cell[i]], row[next], fraction[i]); 0 outside the box.
void expand(const float* row, int cells, const int* cell, const float* fraction,
            const Columns& columns, float* to) {
  const int begin = columns.begin, end = columns.end, count = columns.count;
#if defined(__AVX512F__)
  if (cells <= 16) {                    // the row fits a register: a lookup is a permutation
    constexpr __mmask16 kAll = 0xffff;  // gcc 12 warns of its own unmasked forms
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i last = _mm512_set1_epi32(cells - 1);
    const __m512 values = _mm512_maskz_loadu_ps((1u << cells) - 1u, row);
    const __m512i next =
        _mm512_maskz_min_epi32(kAll, _mm512_add_epi32(lane, _mm512_set1_epi32(1)), last);
    const __m512 nexts = _mm512_maskz_permutexvar_ps(kAll, next, values);
    for (int i = 0; i < count; i += 16) {
      const __m512i c = _mm512_load_si512(cell + i);
      const __m512 a = _mm512_maskz_permutexvar_ps(kAll, c, values),
                   b = _mm512_maskz_permutexvar_ps(kAll, c, nexts);
      const __m512 step = _mm512_mul_ps(_mm512_load_ps(fraction + i), _mm512_sub_ps(b, a));
      const __m512i at = _mm512_add_epi32(lane, _mm512_set1_epi32(i));
      const __mmask16 inside = _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32(begin)) &
                               _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32(end));
      _mm512_store_ps(to + i, _mm512_maskz_add_ps(inside, a, step));
    }
    return;
  }
#elif defined(__AVX2__)
  if (cells <= 8) {
    alignas(32) float padded[8] = {};
    for (int c = 0; c < cells; ++c) padded[c] = row[c];
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i last = _mm256_set1_epi32(cells - 1);
    const __m256 values = _mm256_load_ps(padded);
    const __m256i next = _mm256_min_epi32(_mm256_add_epi32(lane, _mm256_set1_epi32(1)), last);
    const __m256 nexts = _mm256_permutevar8x32_ps(values, next);
    for (int i = 0; i < count; i += 8) {
      const __m256i c = _mm256_load_si256(reinterpret_cast<const __m256i*>(cell + i));
      const __m256 a = _mm256_permutevar8x32_ps(values, c);
      const __m256 b = _mm256_permutevar8x32_ps(nexts, c);
      const __m256 step = _mm256_mul_ps(_mm256_load_ps(fraction + i), _mm256_sub_ps(b, a));
      const __m256i at = _mm256_add_epi32(lane, _mm256_set1_epi32(i));
      const __m256i inside = _mm256_and_si256(_mm256_cmpgt_epi32(at, _mm256_set1_epi32(begin - 1)),
                                              _mm256_cmpgt_epi32(_mm256_set1_epi32(end), at));
      _mm256_store_ps(to + i, _mm256_and_ps(_mm256_castsi256_ps(inside), _mm256_add_ps(a, step)));
    }
    return;
  }
#endif
  for (int i = 0; i < begin; ++i) to[i] = 0.f;
  for (int i = begin; i < end; ++i) {
    const int next = cell[i] + 1 < cells ? cell[i] + 1 : cell[i];
    to[i] = lerp(row[cell[i]], row[next], fraction[i]);
  }
  for (int i = end; i < count; ++i) to[i] = 0.f;
}

// Adds the blends of two expanded rows to `Rows` rows of pixels. Both are 0 outside the box, and no
// sum is ever -0, so the pixels there keep their bits.
template <int Rows>
void add_blends(const float* __restrict above, const float* __restrict below, const float* fraction,
                int count, float* __restrict pixels, int64_t pitch) {
  if (count % kPixelBlock != 0) __builtin_unreachable();  // so that loops have no remainder
  above = static_cast<const float*>(__builtin_assume_aligned(above, 64));
  below = static_cast<const float*>(__builtin_assume_aligned(below, 64));
  float part[Rows];
  for (int k = 0; k < Rows; ++k) part[k] = fraction[k];
  for (int i = 0; i < count; ++i) {
    const float start = above[i], rise = below[i] - above[i];
    for (int k = 0; k < Rows; ++k) pixels[k * pitch + i] += start + part[k] * rise;
  }
}

void draw(const BoxDrawing& box, const DrawingBoard& board) {
  const Axis x = box.x, y = box.y;  // copies, which no store through a pointer can change
  const Columns columns = columns_of(x);
  const int first = sample(y, y.begin, box.cells_y).cell;
  const int last = sample(y, y.end - 1, box.cells_y).next;
  const int cells_x = box.cells_x, count = columns.count;
  for (int i = 0; i < count; ++i) {
    const Sample s = sample(x, columns.first + i, cells_x);
    board.cell[i] = s.cell;
    board.fraction[i] = s.fraction;
  }
  for (int r = first; r <= last; ++r)
    expand(box.map + int64_t{r} * cells_x, cells_x, board.cell, board.fraction, columns,
           board.expanded + r * board.pitch);
  constexpr int kRows = 4;  // share what they read of the expanded rows
  float* pixels = board.pixels + (y.begin - board.first_row) * board.pitch + columns.first;
  for (int py = y.begin; py < y.end;) {
    float fraction[kRows];
    const Sample s = sample(y, py, box.cells_y);
    const float* above = board.expanded + s.cell * board.pitch;
    const float* below = board.expanded + s.next * board.pitch;
    int rows = 0;
    for (; rows < kRows && py + rows < y.end; ++rows) {
      const Sample next = sample(y, py + rows, box.cells_y);
      if (next.cell != s.cell) break;
      fraction[rows] = next.fraction;
    }
    if (rows == kRows) {
      add_blends<kRows>(above, below, fraction, count, pixels, board.pitch);
    } else {
      for (int k = 0; k < rows; ++k)
        add_blends<1>(above, below, fraction + k, count, pixels + k * board.pitch, board.pitch);
    }
    py += rows;
    pixels += rows * board.pitch;
  }
}

void integrate(const int64_t* steps, double unit, int n, float* out) {
  int64_t sum = 0;
  for (int i = 0; i < n; ++i) {
    sum += steps[i];
    out[i] = static_cast<float>(static_cast<double>(sum) * unit);
  }
}

}  // namespace

namespace LABELPENET_ISA {
extern const AttentionLoops kAttentionLoops;
const AttentionLoops kAttentionLoops = {draw, integrate};
}  // namespace LABELPENET_ISA
}  // namespace labelpenet
