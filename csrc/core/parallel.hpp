// Loops over OpenMP threads. The thread count comes from the caller (torch.get_num_threads()).
#pragma once
#include <cstdint>
#include <exception>
#include <mutex>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace labelpenet {

// True in a process forked from one that had started OpenMP threads: libgomp would wait for threads
// that the fork did not copy, so such a process runs its loops on one thread (DataLoader workers).
bool forked_child();

// Splits [0, n) into chunks and calls body(begin, end, thread) on up to `threads` threads.
// Chunks of `grain` items are handed out in order as threads become free; a loop of at most `grain`
// items runs on the calling thread, where starting threads would cost more than the work. What a
// body throws (no memory) reaches the caller: left to OpenMP, it would end the process.
template <class Body>
void parallel_for(int64_t n, int64_t grain, int threads, const Body& body) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
#ifdef _OPENMP
  if (threads > 1 && n > grain && !forked_child()) {
    const int64_t chunks = (n + grain - 1) / grain;
    std::exception_ptr failure;
    std::mutex mutex;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t c = 0; c < chunks; ++c) {
      const int64_t begin = c * grain;
      try {
        body(begin, begin + grain < n ? begin + grain : n, omp_get_thread_num());
      } catch (...) {
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    return;
  }
#endif
  (void)threads;
  body(int64_t{0}, n, 0);
}

}  // namespace labelpenet
