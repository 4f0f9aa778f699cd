// A permutohedral lattice over the pixels of one image, built once and used by every filter pass.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "dense_crf/dense_crf.hpp"
#include "dense_crf/lattice_loops.hpp"

namespace labelpenet {

// Cache-line aligned memory that nobody has written yet.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count)
      : data_(static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 64) / 64 * 64))) {
    if (!data_) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

constexpr int64_t blocks_of(int64_t pixels) { return (pixels + kLanes - 1) / kLanes; }

class Lattice {
 public:
  // Throws std::invalid_argument where the kernel is too narrow or the image too large.
  Lattice(const uint8_t* image, int64_t height, int64_t width, const CrfKernel& kernel,
          int threads);

  const LatticeView& view() const { return view_; }

  // Splats rows [pixels, channels] and blurs. `front` and `back` hold (M + 1) * channels floats;
  // the answer is whichever of them the last pass wrote.
  const float* splat_and_blur(const CrfLoops& loops, const float* rows, int channels, float* front,
                              float* back, int threads) const;

  // Multiplies what goes in from pixel p by before[p], what comes out by after[p] * factor.
  void scale(const float* before, const float* after, float factor, int threads);

 private:
  template <int D, class Key>
  void build(const uint8_t* image, int64_t height, int64_t width, const LatticeGeometry<D>& g,
             int threads);
  template <int D, class Table>
  void find_neighbours(const LatticeGeometry<D>& g, const Table& table, int threads);
  void order_entries(int parts, int threads);

  LatticeView view_{};
  Buffer<int> corner_, start_, entry_pixel_, neighbour_;
  Buffer<float> slice_, entry_splat_;
};

}  // namespace labelpenet
