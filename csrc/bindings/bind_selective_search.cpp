#include "bindings/bindings.hpp"

namespace labelpenet {

void bind_selective_search(py::module_&) {}

}  // namespace labelpenet
