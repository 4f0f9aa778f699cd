// The few CUDA runtime calls that the bindings need, so that they include no CUDA header.
#pragma once

namespace labelpenet {

// Makes `device` current and returns the one that was. Throws where the runtime refuses.
int set_device(int device);
void restore_device(int device) noexcept;
// Devices the driver shows; 0 with a reason in *why where there is no driver or no device.
int device_count(const char** why);

}  // namespace labelpenet
