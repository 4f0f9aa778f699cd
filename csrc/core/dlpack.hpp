// The part of the DLPack 1.x C ABI that the tensor caster reads, restated (layout only).
// Source: DLPack specification, dlpack.h, version 1.x.
#pragma once
#include <cstdint>

namespace labelpenet::dlpack {

constexpr int32_t kCpu = 1;
constexpr int32_t kCuda = 2;

struct Device {
  int32_t type;
  int32_t id;
};
struct DType {
  uint8_t code;  // 0 int, 1 uint, 2 float, 4 bfloat, 6 bool
  uint8_t bits;
  uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null = contiguous
  uint64_t byte_offset;
};
struct Version {
  uint32_t major;
  uint32_t minor;
};
struct ApiHeader {
  Version version;
  ApiHeader* prev;
};
struct ExchangeApi {
  ApiHeader header;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object_no_sync;
  void* managed_tensor_to_py_object_no_sync;
  int (*dltensor_from_py_object_no_sync)(void* py_object, Tensor* out);  // may be null
  int (*current_work_stream)(int32_t device_type, int32_t device_id, void** out);
};

}  // namespace labelpenet::dlpack
