// pybind11 caster: torch.Tensor -> TensorView, without torch headers.
// torch >= 2.10 hands out the DLPack C exchange table (about 0.05 us a tensor); an older torch is
// read through the Tensor's Python attributes (about 0.5 us).
#pragma once
#include <pybind11/pybind11.h>

#include "core/dlpack.hpp"
#include "core/tensor_view.hpp"

namespace labelpenet {

// Fills `view`; false (with no Python error set) where `object` is not a readable tensor.
// Refused: tensors without memory (meta, fake), lazy conjugates and negatives, more than 8 dims.
bool view_from_python(PyObject* object, TensorView& view);

}  // namespace labelpenet

namespace pybind11::detail {

template <>
struct type_caster<labelpenet::TensorView> {
  PYBIND11_TYPE_CASTER(labelpenet::TensorView, const_name("torch.Tensor"));
  bool load(handle source, bool) { return labelpenet::view_from_python(source.ptr(), value); }
};

}  // namespace pybind11::detail
