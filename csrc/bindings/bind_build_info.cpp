#include "bindings/bindings.hpp"
#include "core/device.hpp"
#include "core/simd.hpp"

namespace labelpenet {

void bind_build_info(py::module_& m) {
  m.def("build_info", [] {
    py::dict info;
    info["compiler"] = LABELPENET_COMPILER;
    info["cuda"] = kWithCuda;
    info["cuda_detail"] = LABELPENET_CUDA_WHY;
    info["cuda_archs"] = LABELPENET_CUDA_ARCHS;
    info["simd_built"] = LABELPENET_ISAS;
    info["simd_active"] = isa_name(active_isa());
#ifdef _OPENMP
    info["openmp"] = _OPENMP;
#else
    info["openmp"] = 0;
#endif
    return info;
  });
  m.def("cuda_device_count", [] {
    const char* why = "built without CUDA";
    int count = 0;
    if constexpr (kWithCuda) count = device_count(&why);
    return py::make_tuple(count, why);
  });
  m.def("force_isa", [](const std::string& name) { force_isa(name.c_str()); });
}

}  // namespace labelpenet
