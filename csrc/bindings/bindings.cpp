#include "bindings/bindings.hpp"

#include "core/device.hpp"

namespace labelpenet {
namespace {

std::string describe(const int64_t* shape, int ndim) {
  std::string text = "[";
  for (int i = 0; i < ndim; ++i)
    text += (i ? ", " : "") + (shape[i] < 0 ? std::string("*") : std::to_string(shape[i]));
  return text + "]";
}

}  // namespace

void expect(const TensorView& t, const char* name, DType dtype,
            std::initializer_list<int64_t> shape) {
  bool ok = t.ndim == static_cast<int>(shape.size());
  int i = 0;
  for (int64_t size : shape) ok = ok && (size < 0 || size == t.shape[i]), ++i;
  if (!ok)
    throw std::invalid_argument(std::string(name) + ": expected shape " +
                                describe(shape.begin(), i) + ", got " + describe(t.shape, t.ndim));
  if (t.dtype != dtype) throw std::invalid_argument(std::string(name) + ": unexpected dtype");
  if (t.numel() > 0 && !t.contiguous())  // torch calls every empty tensor contiguous
    throw std::invalid_argument(std::string(name) + ": expected a contiguous tensor");
}

void expect_same_device(std::initializer_list<const TensorView*> tensors) {
  const TensorView& first = **tensors.begin();
  for (const TensorView* t : tensors)
    if (t->cuda != first.cuda || (t->cuda && t->device != first.device))
      throw std::invalid_argument("tensors are on different devices");
}

DeviceGuard::DeviceGuard([[maybe_unused]] const TensorView& t) {
  if constexpr (kWithCuda) previous_ = set_device(t.device);
}

DeviceGuard::~DeviceGuard() {
  if constexpr (kWithCuda) restore_device(previous_);
}

}  // namespace labelpenet
