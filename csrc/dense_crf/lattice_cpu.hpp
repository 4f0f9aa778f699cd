// A permutohedral lattice over the pixels of one image, built once and used by every filter pass.
#pragma once
#include <cstdint>

#include "dense_crf/buffer.hpp"
#include "dense_crf/crf_loops.hpp"
#include "dense_crf/dense_crf.hpp"

namespace labelpenet {

class Lattice {
 public:
  // A lattice that filters by `factor` times the normalised kernel. Throws std::invalid_argument
  // where the kernel is too narrow or the image too large.
  Lattice(const uint8_t* image, int64_t height, int64_t width, const CrfKernel& kernel,
          CrfNormalization normalization, float factor, int threads);

  const LatticeView& view() const { return view_; }

  // Splats rows [pixels, channels] and blurs. `front` and `back` hold (M + 1) * channels floats;
  // the answer is whichever of them the last pass wrote.
  const float* splat_and_blur(const float* rows, int channels, float* front, float* back,
                              int threads) const;

 private:
  template <int D, class Key>
  void number_vertices(const uint8_t* image, int64_t width, const LatticeGeometry<D>& g,
                       int threads);
  template <int D, class Table>
  void find_neighbours(const LatticeGeometry<D>& g, const Table& table, int threads);
  const float* blur(int channels, float* front, float* back, int threads) const;
  void order_entries(CrfNormalization normalization, float factor, int threads);

  const LatticeLoops& loops_ = LABELPENET_PICK(kLatticeLoops);
  LatticeView view_{};
  int parts_ = 1;  // stretches of the pixels that threads number and count by themselves
  Buffer<int> corner_, start_, neighbour_;
  Buffer<float> slice_;
  Buffer<LatticeEntry> entries_;
};

}  // namespace labelpenet
