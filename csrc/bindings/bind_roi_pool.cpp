#include "bindings/bindings.hpp"

namespace labelpenet {

void bind_roi_pool(py::module_&) {}

}  // namespace labelpenet
