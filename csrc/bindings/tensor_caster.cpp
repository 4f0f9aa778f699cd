#include "bindings/tensor_caster.hpp"

namespace labelpenet {
namespace {

namespace py = pybind11;

DType dtype_from_dlpack(dlpack::DType d) {
  switch (d.code * 1000 + d.bits) {
    case 2032:
      return DType::kFloat32;
    case 2064:
      return DType::kFloat64;
    case 2016:
      return DType::kFloat16;
    case 4016:
      return DType::kBFloat16;
    case 32:
      return DType::kInt32;
    case 64:
      return DType::kInt64;
    case 16:
      return DType::kInt16;
    case 8:
      return DType::kInt8;
    case 1008:
      return DType::kUInt8;
    case 6008:
      return DType::kBool;
    default:
      return DType::kOther;
  }
}

// One-entry cache, guarded by the GIL: nearly every call sees torch.Tensor itself.
const dlpack::ExchangeApi* exchange_api(PyTypeObject* type) {
  static PyTypeObject* last_type = nullptr;
  static const dlpack::ExchangeApi* last_api = nullptr;
  if (type == last_type) return last_api;
  const dlpack::ExchangeApi* api = nullptr;
  if (PyObject* capsule =
          PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__")) {
    if (PyCapsule_CheckExact(capsule))
      api = static_cast<const dlpack::ExchangeApi*>(
          PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    Py_DECREF(capsule);
    while (api && api->header.version.major != 1)
      api = reinterpret_cast<const dlpack::ExchangeApi*>(api->header.prev);
    if (api && !api->dltensor_from_py_object_no_sync) api = nullptr;
  }
  PyErr_Clear();
  Py_INCREF(type);  // the cached key must not be reused by another type
  Py_XDECREF(last_type);
  last_type = type;
  last_api = api;
  return api;
}

bool fill_from_exchange(PyObject* object, const dlpack::ExchangeApi* api, TensorView& view) {
  dlpack::Tensor t;
  if (api->dltensor_from_py_object_no_sync(object, &t) != 0 || t.ndim > kMaxDims) return false;
  if (t.device.type != dlpack::kCpu && t.device.type != dlpack::kCuda) return false;
  view.data = static_cast<char*>(t.data) + t.byte_offset;
  view.ndim = t.ndim;
  view.dtype = dtype_from_dlpack(t.dtype);
  view.cuda = t.device.type == dlpack::kCuda;
  view.device = t.device.id;
  int64_t packed = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    view.shape[i] = t.shape[i];
    view.stride[i] = t.strides ? t.strides[i] : packed;
    packed *= t.shape[i];
  }
  return t.data != nullptr || view.numel() == 0;
}

struct TorchNames {
  static constexpr int kDTypes = 10;
  py::object tensor;
  py::object dtypes[kDTypes];  // in the order of enum DType
  TorchNames() {
    py::module_ torch = py::module_::import("torch");
    tensor = torch.attr("Tensor");
    const char* names[kDTypes] = {"float32", "float64", "float16", "bfloat16", "int32",
                                  "int64",   "uint8",   "bool",    "int16",    "int8"};
    for (int i = 0; i < kDTypes; ++i) dtypes[i] = torch.attr(names[i]);
  }
};

bool fill_from_attributes(py::handle object, TensorView& view) {
  static const TorchNames* names = new TorchNames;  // leaked: outlives the interpreter's teardown
  if (!py::isinstance(object, names->tensor)) return false;
  py::tuple shape = object.attr("shape"), stride = object.attr("stride")();
  if (shape.size() > kMaxDims) return false;
  view.ndim = static_cast<int>(shape.size());
  for (int i = 0; i < view.ndim; ++i) {
    view.shape[i] = shape[i].cast<int64_t>();
    view.stride[i] = stride[i].cast<int64_t>();
  }
  view.data = PyLong_AsVoidPtr(py::object(object.attr("data_ptr")()).ptr());
  py::object dtype = object.attr("dtype");
  view.dtype = DType::kOther;
  for (int i = 0; i < TorchNames::kDTypes; ++i)
    if (dtype.is(names->dtypes[i])) view.dtype = static_cast<DType>(i);
  view.cuda = object.attr("is_cuda").cast<bool>();
  if (view.cuda)
    view.device = object.attr("get_device")().cast<int>();
  else if (!object.attr("is_cpu").cast<bool>())
    return false;
  return view.data != nullptr || view.numel() == 0;
}

bool is_lazy_view(py::handle object) {
  return object.attr("is_conj")().cast<bool>() || object.attr("is_neg")().cast<bool>();
}

}  // namespace

bool view_from_python(PyObject* object, TensorView& view) {
  try {
    const dlpack::ExchangeApi* api = exchange_api(Py_TYPE(object));
    // The exchange API itself refuses lazy views and tensors that need a gradient are read as data.
    bool ok = api && fill_from_exchange(object, api, view);
    if (!ok) {
      PyErr_Clear();
      ok = fill_from_attributes(object, view) && !is_lazy_view(object);
    }
#ifdef LABELPENET_EMULATED
    view.cuda = true;  // CPU tensors stand in for device tensors
#endif
    return ok;
  } catch (const py::error_already_set&) {
    return false;
  }
}

}  // namespace labelpenet
