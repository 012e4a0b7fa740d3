// Weight Standardization of a kernel [rows, out], as defined in
// `models/standardize.py`.
//
// For every column w: v = c r, with c = w - mean w and r = 1 / sqrt(sum c^2 + epsilon).
// So v has zero mean and variance 1 / rows. (The sum of squares is the variance times
// fan_in.)
//
// The gradient, from the gradient d of the result. v depends on c directly and through
// r. With dr / dc = -r^3 c, the gradient with respect to c is
//
//   g = r d - r^3 c (sum d c)
//
// The gradient with respect to w is g minus its mean. c has mean zero, so only d
// changes:
//
//   r (d - mean d) - r^3 c (sum d c) = r (d - level - c slope)
//   level = mean d      slope = r^2 sum d c
//
// The backward pass computes the statistics again. Storing them would need an array per
// kernel; computing them costs one reading of the kernel.

#pragma once

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "vector.h"

namespace standardization {

struct Shape {
  int64_t rows, columns;
  float epsilon;

  int64_t Size() const { return rows * columns; }
};

// Rows that are summed separately first. A single float sum over all rows of a wide
// layer (4608 in a 3x3 kernel of 512 channels) would lose its last digits.
constexpr int64_t kRun = 64;

// Sums term(i) over the rows, for the columns at `i`.
template <typename C, typename Term>
C SumOverRows(const Shape& s, int64_t first, Term term) {
  C total{};
  for (int64_t row = 0; row < s.rows; row += kRun) {
    const int64_t end = std::min(row + kRun, s.rows);
    C part{};
    for (int64_t i = row; i < end; ++i) part = part + term(first + i * s.columns);
    total = total + part;
  }
  return total;
}

template <typename C>
struct Statistics {
  C mean, inverse;  // m and r
};

template <typename C>
Statistics<C> Of(const Shape& s, const float* kernel, int64_t first) {
  const C fraction = C::All(1.0f / s.rows);
  const C mean =
      fraction *
      SumOverRows<C>(s, first, [=](int64_t i) { return C::Of(kernel + i); });
  const C square = SumOverRows<C>(s, first, [=](int64_t i) {
    const C centred = C::Of(kernel + i) - mean;
    return centred * centred;
  });
  return {mean, (square + C::All(s.epsilon)).InverseRoot()};
}

// Calls work(first column, C{}) for all columns. Each thread takes some columns.
template <typename Work>
void EachColumn(xla::ffi::ThreadPool& pool, const Shape& s, Work work) {
  constexpr int64_t kColumns = 4 * kLanes;
  const int64_t pieces = (s.columns + kColumns - 1) / kColumns;
  InParallel(pool, pieces, [&](int64_t piece) {
    const int64_t begin = piece * kColumns;
    EachChannels(std::min(kColumns, s.columns - begin),
                 [&](int64_t c, auto zero, auto count) {
                   work(begin + c, Channels<decltype(zero), decltype(count)::value>{});
                 });
  });
}

inline void Forward(xla::ffi::ThreadPool& pool, const Shape& s, const float* kernel,
                    float* result) {
  EachColumn(pool, s, [&](int64_t first, auto none) {
    using C = decltype(none);
    const auto [mean, inverse] = Of<C>(s, kernel, first);
    for (int64_t i = first; i < s.Size(); i += s.columns)
      ((C::Of(kernel + i) - mean) * inverse).To(result + i);
  });
}

inline void Backward(xla::ffi::ThreadPool& pool, const Shape& s, const float* kernel,
                     const float* d, float* result) {
  EachColumn(pool, s, [&](int64_t first, auto none) {
    using C = decltype(none);
    const auto [mean, inverse] = Of<C>(s, kernel, first);
    const C m = mean;
    const C level =
        C::All(1.0f / s.rows) *
        SumOverRows<C>(s, first, [=](int64_t i) { return C::Of(d + i); });
    const C slope = inverse * inverse *
                    SumOverRows<C>(s, first, [=](int64_t i) {
                      return C::Of(d + i) * (C::Of(kernel + i) - m);
                    });
    for (int64_t i = first; i < s.Size(); i += s.columns) {
      const C centred = C::Of(kernel + i) - mean;
      (inverse * (C::Of(d + i) - level - centred * slope)).To(result + i);
    }
  });
}

}  // namespace standardization
