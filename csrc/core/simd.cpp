#include "core/simd.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace labelpenet {
namespace {

Isa best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return Isa::kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

Isa parse(const std::string& name) {
  for (Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (name != isa_name(isa)) continue;
    if (isa > best_isa())
      throw std::runtime_error("LABELPENET_SIMD: this processor has no " + name + ", best is " +
                               isa_name(best_isa()));
    return isa;
  }
  throw std::runtime_error("LABELPENET_SIMD: expected baseline, avx2 or avx512, got '" + name +
                           "'");
}

Isa choose() {
  const char* forced = std::getenv("LABELPENET_SIMD");
  return forced && *forced ? parse(forced) : best_isa();
}

Isa& current() {
  static Isa isa = choose();
  return isa;
}

}  // namespace

Isa active_isa() { return current(); }

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

void force_isa(const char* name) { current() = *name ? parse(name) : choose(); }

}  // namespace labelpenet
