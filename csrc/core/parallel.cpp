#include "core/parallel.hpp"

#include <pthread.h>

namespace labelpenet {
namespace {

bool g_forked_child = false;

// Registered when the extension is loaded, so that every later fork is seen.
const int kRegistered = pthread_atfork(nullptr, nullptr, [] { g_forked_child = true; });

}  // namespace

bool forked_child() {
  (void)kRegistered;
  return g_forked_child;
}

}  // namespace labelpenet
