// Run-time choice among the instruction sets that *_simd.cpp files are compiled for.
//
// A kernel's inner loops live in <op>_simd.cpp, which CMake compiles once per instruction set with
// LABELPENET_ISA set to its name. The file defines its functions in an anonymous namespace and
// exports one table of function pointers:
//
//   namespace labelpenet::LABELPENET_ISA { extern const RoiPoolLoops kRoiPoolLoops; }
//
// and <op>_cpu.cpp picks it with LABELPENET_PICK(kRoiPoolLoops). Such a file must not instantiate
// std:: templates or other inline functions shared with the rest: the linker keeps one copy of
// each, perhaps the AVX-512 one, and the baseline path would then run it.
#pragma once

namespace labelpenet {

enum class Isa { kBaseline, kAvx2, kAvx512 };

// The best instruction set this processor has; LABELPENET_SIMD=baseline|avx2|avx512 lowers it.
// Read once. Throws std::runtime_error where the forced one is unknown or not there.
Isa active_isa();
const char* isa_name(Isa isa);

// For tests: makes active_isa() answer `name` ("" = choose again by processor and environment).
void force_isa(const char* name);

}  // namespace labelpenet

// Declares the per-instruction-set copies of one exported table.
#if defined(__x86_64__)
#define LABELPENET_DECLARE_SIMD(Type, name) \
  namespace labelpenet::baseline {          \
  extern const Type name;                   \
  }                                         \
  namespace labelpenet::avx2 {              \
  extern const Type name;                   \
  }                                         \
  namespace labelpenet::avx512 {            \
  extern const Type name;                   \
  }
#define LABELPENET_PICK(name)                                                            \
  (::labelpenet::active_isa() == ::labelpenet::Isa::kAvx512 ? ::labelpenet::avx512::name \
   : ::labelpenet::active_isa() == ::labelpenet::Isa::kAvx2 ? ::labelpenet::avx2::name   \
                                                            : ::labelpenet::baseline::name)
#else
#define LABELPENET_DECLARE_SIMD(Type, name) \
  namespace labelpenet::baseline {          \
  extern const Type name;                   \
  }
#define LABELPENET_PICK(name) (::labelpenet::baseline::name)
#endif
