#include "bindings/bindings.hpp"

PYBIND11_MODULE(LABELPENET_MODULE, m) {
  m.doc() = "labelpenet kernels; the public functions are in labelpenet.ops";
  labelpenet::bind_build_info(m);
  labelpenet::bind_roi_pool(m);
  labelpenet::bind_nms(m);
  labelpenet::bind_excitation(m);
  labelpenet::bind_attention(m);
  labelpenet::bind_dense_crf(m);
  labelpenet::bind_selective_search(m);
  labelpenet::bind_peaks(m);
  labelpenet::bind_matching(m);
}
