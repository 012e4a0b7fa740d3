// Parallel work on XLA's own threads, and memory that belongs to a thread.

#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

#include "xla/ffi/api/ffi.h"

// oneDNN asks OpenMP for the number of threads. Each piece of work must get one.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

// Time to poll for the end before going to sleep. Most waits are shorter than a
// wake-up. Polling longer would keep a core from other work.
constexpr std::chrono::microseconds kBeforeSleep(200);

// Calls work(i) for every i below `pieces`, on the pool's threads and on this one. This
// thread takes pieces too, so it never waits for work that no thread has begun.
template <typename Work>
void InParallel(xla::ffi::ThreadPool& pool, int64_t pieces, Work work) {
  struct Shared {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable ready;
    std::exception_ptr error;
  };
  auto shared = std::make_shared<Shared>();
  auto take = [shared, pieces, &work] {
    OneThread one;
    for (int64_t i = shared->next++; i < pieces; i = shared->next++) {
      std::exception_ptr error;
      try {
        work(i);
      } catch (...) {
        error = std::current_exception();
      }
      if (error) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        shared->error = error;
      }
      if (shared->done.fetch_add(1) + 1 == pieces) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        shared->ready.notify_all();
      }
    }
  };
  const int64_t helpers = std::min<int64_t>(pieces, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(take)(take));
  take();
  const auto finished = [&] { return shared->done.load() == pieces; };
  const auto until = std::chrono::steady_clock::now() + kBeforeSleep;
  while (!finished() && std::chrono::steady_clock::now() < until)
    std::this_thread::yield();
  if (!finished()) {
    std::unique_lock<std::mutex> lock(shared->mutex);
    shared->ready.wait(lock, finished);
  }
  if (shared->error) std::rethrow_exception(shared->error);
}

// Part i when [0, size) is cut into `parts` nearly equal parts.
struct Range {
  int64_t begin, end;
};

inline Range Part(int64_t size, int64_t i, int64_t parts) {
  return {size * i / parts, size * (i + 1) / parts};
}

// Number of pieces for `size` items: several per thread, so that threads finish
// together.
inline int64_t Pieces(xla::ffi::ThreadPool& pool, int64_t size) {
  return std::min<int64_t>(size, 4 * pool.num_threads());
}

// Calls work(i, piece) for every i below `size`. A piece runs on one thread.
template <typename Work>
void ForEach(xla::ffi::ThreadPool& pool, int64_t size, Work work) {
  const int64_t pieces = Pieces(pool, size);
  InParallel(pool, pieces, [&](int64_t piece) {
    const auto [begin, end] = Part(size, piece, pieces);
    for (int64_t i = begin; i < end; ++i) work(i, piece);
  });
}

// Memory that grows to the largest use of its thread and is kept.
//
// The old memory is freed before more is allocated. If that fails, the next call
// allocates again and does not return freed memory.
class Workspace {
 public:
  float* Get(size_t floats) {
    if (floats > kMost) throw std::bad_alloc();
    const size_t bytes = floats * sizeof(float);
    if (bytes > size_) {
      data_.reset(), size_ = 0;
      const size_t wanted = (bytes + kLine - 1) / kLine * kLine;
      data_.reset(static_cast<float*>(std::aligned_alloc(kLine, wanted)));
      if (!data_) throw std::bad_alloc();
      size_ = wanted;
    }
    return data_.get();
  }

 private:
  static constexpr size_t kLine = 64;  // bytes of a cache line, and of the widest vector
  static constexpr size_t kMost = (SIZE_MAX - kLine) / sizeof(float);
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  size_t size_ = 0;
};
