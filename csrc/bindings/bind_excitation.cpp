#include "bindings/bindings.hpp"

namespace labelpenet {

void bind_excitation(py::module_&) {}

}  // namespace labelpenet
