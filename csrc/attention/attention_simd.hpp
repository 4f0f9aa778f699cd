// The loops of attention_simd.cpp, compiled once per instruction set.
#pragma once
#include "attention/attention_math.hpp"
#include "core/simd.hpp"

namespace labelpenet {

// Pixels are drawn in whole vectors, at columns that are multiples of this; rows of pixels start at
// such a column and are as long as needed.
constexpr int kPixelBlock = 16;

// A box and its map; y holds only the pixel rows to draw.
struct BoxDrawing {
  const float* map;  // [cells_y, cells_x]
  Axis y, x;
  int cells_y, cells_x;
};

// A band of an image that is drawn into, and memory for one box's rows of cells as pixels.
struct DrawingBoard {
  float* pixels;    // [rows, pitch], 64-byte aligned
  float* expanded;  // [cells_y, pitch] scratch, likewise
  float* fraction;  // [pitch] scratch, likewise
  int* cell;        // [pitch] scratch, likewise
  int first_row;    // the row of the image that `pixels` begins with
  int64_t pitch;    // a multiple of kPixelBlock
};

struct AttentionLoops {
  // Adds the samples of a box's map to its pixels; changes no bit of other pixels.
  void (*draw)(const BoxDrawing& box, const DrawingBoard& board);
  // out[i] = unit * (steps[0] + ... + steps[i]), n times.
  void (*integrate)(const int64_t* steps, double unit, int n, float* out);
};

}  // namespace labelpenet

LABELPENET_DECLARE_SIMD(AttentionLoops, kAttentionLoops)
