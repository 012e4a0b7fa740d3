// 1x1 convolutions with stride 1, and dense layers: one matrix product over all pixels.
//
// They are used for dense layers and for large kernels. For others oneDNN's convolution
// is as fast. Threads share the rows. If there are fewer rows than channels, they share
// the channels; otherwise every thread would read the whole kernel for a few rows.

#pragma once

#include <algorithm>
#include <cstring>

#include "matmul.h"
#include "parallel.h"
#include "shape.h"

namespace pointwise {

constexpr int64_t kFewestWeights = 1 << 17;  // measured: below this oneDNN is as fast
constexpr int64_t kBlock = 512;  // rows that are multiplied at a time into a gradient

inline bool Applies(const Convolution& c) {
  const bool dense = c.height * c.width == 1;
  return c.KernelSize() == c.in * c.out && c.stride_height == 1 &&
         c.stride_width == 1 && c.height == c.out_height && c.width == c.out_width &&
         (dense || c.in * c.out >= kFewestWeights);
}

inline int64_t Rows(const Convolution& c) { return c.batch * c.height * c.width; }

inline void Output(xla::ffi::ThreadPool& pool, const Convolution& c, const float* x,
                   const float* kernel, float* y) {
  const int64_t rows = Rows(c), threads = pool.num_threads();
  const bool by_rows = rows >= c.in;
  InParallel(pool, threads, [&](int64_t thread) {
    const auto [begin, end] = Part(by_rows ? rows : c.out, thread, threads);
    const int64_t count = end - begin;
    if (count == 0) return;
    if (by_rows)
      Multiply(Matrix::Dense(count, c.in), x + begin * c.in,
               Matrix::Dense(c.in, c.out), kernel, Matrix::Dense(count, c.out),
               y + begin * c.out, false);
    else
      Multiply(Matrix::Dense(rows, c.in), x, {{c.in, count}, {c.out, 1}},
               kernel + begin, {{rows, count}, {c.out, 1}}, y + begin, false);
  });
}

inline void InputGradient(xla::ffi::ThreadPool& pool, const Convolution& c, float* dx,
                          const float* kernel, const float* dy) {
  const int64_t rows = Rows(c), threads = pool.num_threads();
  const bool by_rows = rows >= c.in;
  InParallel(pool, threads, [&](int64_t thread) {
    const auto [begin, end] = Part(by_rows ? rows : c.in, thread, threads);
    const int64_t count = end - begin;
    if (count == 0) return;
    if (by_rows)
      Multiply(Matrix::Dense(count, c.out), dy + begin * c.out,
               Matrix::Dense(c.in, c.out).Transposed(), kernel,
               Matrix::Dense(count, c.in), dx + begin * c.in, false);
    else
      Multiply(Matrix::Dense(rows, c.out), dy,
               Matrix::Dense(count, c.out).Transposed(), kernel + begin * c.out,
               {{rows, count}, {c.in, 1}}, dx + begin, false);
  });
}

// Adds the products of some rows to `kernel`, block by block.
inline void AddUp(const Convolution& c, Range rows, const float* x, const float* dy,
                  float* kernel) {
  const int64_t blocks = (rows.end - rows.begin + kBlock - 1) / kBlock;
  for (int64_t block = 0; block < blocks; ++block) {
    const auto [begin, end] = Part(rows.end - rows.begin, block, blocks);
    const int64_t first = rows.begin + begin, count = end - begin;
    Multiply(Matrix::Dense(count, c.in).Transposed(), x + first * c.in,
             Matrix::Dense(count, c.out), dy + first * c.out,
             Matrix::Dense(c.in, c.out), kernel, block > 0);
  }
}

inline void KernelGradient(xla::ffi::ThreadPool& pool, const Convolution& c,
                           const float* x, float* kernel, const float* dy) {
  static thread_local Workspace shared;
  const int64_t rows = Rows(c), threads = pool.num_threads(), size = c.in * c.out;
  if (rows < std::max(c.in, threads)) {
    InParallel(pool, threads, [&](int64_t thread) {
      const auto [begin, end] = Part(c.in, thread, threads);
      if (begin == end) return;
      Multiply(Matrix{{rows, end - begin}, {c.in, 1}}.Transposed(), x + begin,
               Matrix::Dense(rows, c.out), dy, Matrix::Dense(end - begin, c.out),
               kernel + begin * c.out, false);
    });
    return;
  }
  // The first thread adds to the result itself; each other thread has its own sum. They
  // are added in the order of the threads, so the same call always gives the same bits.
  float* sums = shared.Get((threads - 1) * size + 1);
  InParallel(pool, threads, [&](int64_t thread) {
    AddUp(c, Part(rows, thread, threads), x, dy,
          thread ? sums + (thread - 1) * size : kernel);
  });
  for (int64_t thread = 1; thread < threads; ++thread)
    for (int64_t i = 0; i < size; ++i) kernel[i] += sums[(thread - 1) * size + i];
}

}  // namespace pointwise
