#include "bindings/bindings.hpp"

namespace labelpenet {

void bind_attention(py::module_&) {}

}  // namespace labelpenet
