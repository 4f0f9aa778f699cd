#include "bindings/bindings.hpp"

namespace labelpenet {

void bind_dense_crf(py::module_&) {}

}  // namespace labelpenet
