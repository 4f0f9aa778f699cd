// Memory for the CPU path.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace labelpenet {

// Aligned memory that nobody has written yet. Large buffers ask for huge pages: a quarter of a
// small CRF's time went into page faults of 4 KiB.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    const size_t page = bytes >= 2 * kHugePage ? kHugePage : 64;
    const size_t rounded = (bytes / page + 1) * page;
    data_.reset(static_cast<T*>(std::aligned_alloc(page, rounded)));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (page == kHugePage) (void)madvise(data_.get(), rounded, MADV_HUGEPAGE);
#endif
  }
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace labelpenet
