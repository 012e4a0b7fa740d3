// Weight Standardization of a kernel [rows, out], as `models/standardize.py` defines it.
//
// Of every column w: (w - m) r with r = 1 / sqrt(sum (w - m)^2 + epsilon), so zero mean and
// variance 1 / rows. Its gradient from that of the result, d:
// r (d - mean d) - r^3 (w - m) sum d (w - m).

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

constexpr int64_t kRun = 64;  // rows that are added up before the sum is touched

// The sum over rows of term(i), of the columns at `i`.
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

// Calls work(first column, C{}) for all columns, some of them on each thread.
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
