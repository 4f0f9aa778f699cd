// What the binding files share: one register function per op, the checks at the door of C++,
// and the choice between the CPU loops and the CUDA launch.
#pragma once
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "bindings/tensor_caster.hpp"
#include "core/tensor_view.hpp"

namespace labelpenet {

namespace py = pybind11;

#if LABELPENET_WITH_CUDA
constexpr bool kWithCuda = true;
#else
constexpr bool kWithCuda = false;
#endif

void bind_build_info(py::module_& m);
void bind_roi_pool(py::module_& m);
void bind_nms(py::module_& m);
void bind_excitation(py::module_& m);
void bind_attention(py::module_& m);
void bind_dense_crf(py::module_& m);
void bind_selective_search(py::module_& m);
void bind_peaks(py::module_& m);
void bind_matching(py::module_& m);

// The Python layer has validated already and speaks to the user; these stop a wrong call from
// inside the package before it can touch memory. Expected sizes of -1 match anything.
void expect(const TensorView& t, const char* name, DType dtype,
            std::initializer_list<int64_t> shape);
void expect_same_device(std::initializer_list<const TensorView*> tensors);

// Makes `device` current for the enclosing scope (a no-op for CPU tensors).
class DeviceGuard {
 public:
  explicit DeviceGuard(const TensorView& t);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = -1;
};

// Runs cpu() or cuda() by where `t` lives, without the GIL and on t's device. Call as
//   dispatch(t, [&] { roi_pool_cpu(args, threads); },
//               [&] { if constexpr (kWithCuda) roi_pool_cuda(args, stream); });
template <class Cpu, class Cuda>
void dispatch(const TensorView& t, const Cpu& cpu, const Cuda& cuda) {
  if (t.cuda && !kWithCuda)
    throw std::runtime_error("labelpenet was built without CUDA; rebuild with LABELPENET_CUDA=ON");
  py::gil_scoped_release release;
  if (t.cuda) {
    DeviceGuard guard(t);
    cuda();
  } else {
    cpu();
  }
}

}  // namespace labelpenet
