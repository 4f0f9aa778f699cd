// A tensor as the kernels' entry points see it: a pointer, a shape, strides. No framework.
#pragma once
#include <cstdint>

namespace labelpenet {

enum class DType : int8_t {
  kFloat32,
  kFloat64,
  kFloat16,
  kBFloat16,
  kInt32,
  kInt64,
  kUInt8,
  kBool,
  kInt16,
  kInt8,
  kOther
};

constexpr int kMaxDims = 8;

struct TensorView {
  void* data = nullptr;
  int ndim = 0;
  int64_t shape[kMaxDims] = {};
  int64_t stride[kMaxDims] = {};  // in elements
  DType dtype = DType::kOther;
  bool cuda = false;
  int device = 0;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    return n;
  }
  bool contiguous() const {
    int64_t expected = 1;
    for (int i = ndim - 1; i >= 0; --i) {
      if (shape[i] != 1 && stride[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }
};

}  // namespace labelpenet
