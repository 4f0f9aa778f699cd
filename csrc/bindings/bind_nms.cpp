#include "bindings/bindings.hpp"

namespace labelpenet {

void bind_nms(py::module_&) {}

}  // namespace labelpenet
