// Normalization of images, with the addition of a shortcut and the ReLU behind it.
//
// Statistics are of blocks of images and groups of channels: one image and a group under
// GroupNorm, many images and a channel under BatchNorm, where the images of several views
// lie side by side and have a block each. An image is read once for its sums, and again,
// out of the cache under GroupNorm, for what is made of them.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "parallel.h"
#include "vector.h"

namespace normalization {

struct Shape {
  int64_t batch, pixels, channels;
  int64_t images;  // in a block
  int64_t views;   // image i is of view i % views
  int64_t groups;  // of channels

  // Pixels that are taken at a time: of few channels, as many as fill a vector.
  int64_t Together() const {
    const int64_t most = std::max<int64_t>(kLanes / channels, 1);
    return pixels % most == 0 ? most : 1;
  }
  int64_t RowSize() const { return Together() * channels; }
  int64_t ImageSize() const { return pixels * channels; }
  int64_t Blocks() const { return batch / images; }
  int64_t BlockOf(int64_t image) const {
    return image / (images * views) * views + image % views;
  }
  int64_t FirstOf(int64_t block) const {
    return block / views * images * views + block % views;
  }
  int64_t Width() const { return channels / groups; }
  float Count() const { return static_cast<float>(images * pixels * Width()); }
};

constexpr int64_t kRunFloats = 1 << 12;

// Calls work(begin, end, c, zero) for runs of rows that stay in the nearest cache while
// place `c` of each is done.
template <typename Work>
void EachRun(const Shape& s, Work work) {
  const int64_t size = s.RowSize(), rows = s.ImageSize() / size;
  const int64_t most = std::max<int64_t>(kRunFloats / size, 8);
  for (int64_t row = 0; row < rows; row += most) {
    const int64_t end = std::min(row + most, rows);
    EachChannels(size, [&](int64_t c, auto zero, auto count) {
      work(row * size + c, end * size + c, c,
           Channels<decltype(zero), decltype(count)::value>{});
    });
  }
}

// Of every place in a row, the sums of x and of its square.
inline void Moments(const Shape& s, const float* x, float* sums, float* squares) {
  std::memset(sums, 0, s.RowSize() * sizeof(float));
  std::memset(squares, 0, s.RowSize() * sizeof(float));
  EachRun(s, [=, step = s.RowSize()](int64_t begin, int64_t end, int64_t c, auto none) {
    using C = decltype(none);
    C sum{}, square{};
    for (int64_t i = begin; i < end; i += step) {
      const C value = C::Of(x + i);
      sum = sum + value, square = square + value * value;
    }
    (C::Of(sums + c) + sum).To(sums + c);
    (C::Of(squares + c) + square).To(squares + c);
  });
}

// factor * x + offset, + shortcut if there is one, ReLU if there is one.
template <bool kShortcut, bool kRelu>
void Apply(const Shape& s, const float* x, const float* factor, const float* offset,
           const float* shortcut, float* y) {
  EachRun(s, [=, step = s.RowSize()](int64_t begin, int64_t end, int64_t c, auto none) {
    using C = decltype(none);
    const C f = C::Of(factor + c), o = C::Of(offset + c);
    for (int64_t i = begin; i < end; i += step) {
      C out = C::Of(x + i) * f + o;
      if constexpr (kShortcut) out = out + C::Of(shortcut + i);
      if constexpr (kRelu) out = out.Where(out);
      out.To(y + i);
    }
  });
}

// The cotangent before the ReLU. Where a shortcut was added the sign is read off the
// output, elsewhere it is worked out again.
template <bool kShortcut, bool kRelu, typename C>
C BeforeRelu(const C& dy, const C& x, const C& factor, const C& offset,
             const float* y) {
  if constexpr (!kRelu)
    return dy;
  else if constexpr (kShortcut)
    return dy.Where(C::Of(y));
  else
    return dy.Where(x * factor + offset);
}

// Of every place in a row, the sums of the cotangent g and of g x.
template <bool kShortcut, bool kRelu>
void GradientMoments(const Shape& s, const float* x, const float* y, const float* dy,
                     const float* factor, const float* offset, float* sums,
                     float* products) {
  std::memset(sums, 0, s.RowSize() * sizeof(float));
  std::memset(products, 0, s.RowSize() * sizeof(float));
  EachRun(s, [=, step = s.RowSize()](int64_t begin, int64_t end, int64_t c, auto none) {
    using C = decltype(none);
    const C f = C::Of(factor + c), o = C::Of(offset + c);
    C sum{}, product{};
    for (int64_t i = begin; i < end; i += step) {
      const C in = C::Of(x + i);
      const C g = BeforeRelu<kShortcut, kRelu>(C::Of(dy + i), in, f, o, y + i);
      sum = sum + g, product = product + g * in;
    }
    (C::Of(sums + c) + sum).To(sums + c);
    (C::Of(products + c) + product).To(products + c);
  });
}

// dx = factor g + slope x + level, and the shortcut's gradient g.
template <bool kShortcut, bool kRelu>
void ApplyGradient(const Shape& s, const float* x, const float* y, const float* dy,
                   const float* factor, const float* offset, const float* slope,
                   const float* level, float* dx, float* dshortcut) {
  EachRun(s, [=, step = s.RowSize()](int64_t begin, int64_t end, int64_t c, auto none) {
    using C = decltype(none);
    const C f = C::Of(factor + c), o = C::Of(offset + c);
    const C a = C::Of(slope + c), b = C::Of(level + c);
    for (int64_t i = begin; i < end; i += step) {
      const C in = C::Of(x + i);
      const C g = BeforeRelu<kShortcut, kRelu>(C::Of(dy + i), in, f, o, y + i);
      (f * g + a * in + b).To(dx + i);
      if constexpr (kShortcut) g.To(dshortcut + i);
    }
  });
}

// Statistics of the groups of a block, [groups].
struct Statistics {
  float *mean, *variance;
};

// factor = scale / deviation and offset = bias - mean factor, of every place in a row.
inline void Coefficients(const Shape& s, Statistics of, const float* scale,
                         const float* bias, float epsilon, float* factor,
                         float* offset) {
  for (int64_t i = 0; i < s.RowSize(); ++i) {
    const int64_t c = i % s.channels, g = c / s.Width();
    factor[i] = scale[c] / std::sqrt(of.variance[g] + epsilon);
    offset[i] = bias[c] - of.mean[g] * factor[i];
  }
}

// Runs first(image) for every image, between(block) once those of a block are done, then
// second(image); a block of one image stays on its thread, and in its cache.
template <typename First, typename Between, typename Second>
void ByBlocks(xla::ffi::ThreadPool& pool, const Shape& s, First first, Between between,
              Second second) {
  if (s.images == 1) {
    ForEach(pool, s.batch, [&](int64_t i) { first(i), between(i), second(i); });
    return;
  }
  ForEach(pool, s.batch, first);
  ForEach(pool, s.Blocks(), between);
  ForEach(pool, s.batch, second);
}

// Two rows of every image, or of every block; zeros at first.
class Rows {
 public:
  Rows(int64_t count, const Shape& s)
      : channels_(s.channels), size_(s.RowSize()), values_(2 * count * size_) {}
  float* First(int64_t i) { return values_.data() + 2 * i * size_; }
  float* Second(int64_t i) { return First(i) + size_; }
  // The sum of a channel of both rows over every `step`-th image from `first` on.
  std::pair<double, double> Sum(int64_t first, int64_t count, int64_t step, int64_t c) {
    std::pair<double, double> sum{0, 0};
    for (int64_t i = first; i < first + count * step; i += step)
      for (int64_t place = c; place < size_; place += channels_)
        sum.first += First(i)[place], sum.second += Second(i)[place];
    return sum;
  }

 private:
  int64_t channels_, size_;
  std::vector<float> values_;
};

template <bool kShortcut, bool kRelu>
void Forward(xla::ffi::ThreadPool& pool, const Shape& s, float epsilon,
                    const float* x, const float* scale, const float* bias,
                    const float* shortcut, float* y, float* mean, float* variance) {
  Rows sums(s.batch, s), coefficients(s.Blocks(), s);
  const auto statistics = [&](int64_t block) {
    return Statistics{mean + block * s.groups, variance + block * s.groups};
  };
  ByBlocks(
      pool, s,
      [&](int64_t image) {
        Moments(s, x + image * s.ImageSize(), sums.First(image), sums.Second(image));
      },
      [&](int64_t block) {
        const Statistics of = statistics(block);
        for (int64_t g = 0; g < s.groups; ++g) {
          double sum = 0, square = 0;
          for (int64_t c = g * s.Width(); c < (g + 1) * s.Width(); ++c) {
            const auto part = sums.Sum(s.FirstOf(block), s.images, s.views, c);
            sum += part.first, square += part.second;
          }
          const double average = sum / s.Count();
          of.mean[g] = average;
          of.variance[g] = std::max(square / s.Count() - average * average, 0.0);
        }
        Coefficients(s, of, scale, bias, epsilon, coefficients.First(block),
                     coefficients.Second(block));
      },
      [&](int64_t image) {
        const int64_t block = s.BlockOf(image), at = image * s.ImageSize();
        const float *f = coefficients.First(block), *o = coefficients.Second(block);
        Apply<kShortcut, kRelu>(s, x + at, f, o, kShortcut ? shortcut + at : nullptr,
                                y + at);
      });
}

template <bool kShortcut, bool kRelu>
void Backward(xla::ffi::ThreadPool& pool, const Shape& s, float epsilon,
              const float* x, const float* y, const float* dy, const float* scale,
              const float* bias, float* mean, float* variance, float* dx, float* dscale,
              float* dbias, float* dshortcut) {
  Rows sums(s.batch, s), coefficients(s.Blocks(), s);
  Rows linear(s.Blocks(), s), parameters(s.Blocks(), s);
  const auto statistics = [&](int64_t block) {
    return Statistics{mean + block * s.groups, variance + block * s.groups};
  };
  ForEach(pool, s.Blocks(), [&](int64_t block) {
    Coefficients(s, statistics(block), scale, bias, epsilon, coefficients.First(block),
                 coefficients.Second(block));
  });
  ByBlocks(
      pool, s,
      [&](int64_t image) {
        const int64_t block = s.BlockOf(image), at = image * s.ImageSize();
        GradientMoments<kShortcut, kRelu>(s, x + at, kShortcut ? y + at : nullptr, dy + at,
                                   coefficients.First(block),
                                   coefficients.Second(block), sums.First(image),
                                   sums.Second(image));
      },
      [&](int64_t block) {
        const Statistics of = statistics(block);
        float *to_scale = parameters.First(block), *to_bias = parameters.Second(block);
        for (int64_t g = 0; g < s.groups; ++g) {
          const double inverse = 1 / std::sqrt(double{of.variance[g]} + epsilon);
          double level = 0, slope = 0;  // sums of scale g and scale g (x normalized)
          for (int64_t c = g * s.Width(); c < (g + 1) * s.Width(); ++c) {
            const auto [sum, product] =
                sums.Sum(s.FirstOf(block), s.images, s.views, c);
            to_bias[c] = sum;
            to_scale[c] = (product - of.mean[g] * sum) * inverse;
            level += scale[c] * sum, slope += scale[c] * to_scale[c];
          }
          const double a = -inverse * inverse * slope / s.Count();
          const double b = -inverse * level / s.Count() - a * of.mean[g];
          for (int64_t c = g * s.Width(); c < (g + 1) * s.Width(); ++c)
            for (int64_t i = c; i < s.RowSize(); i += s.channels)
              linear.First(block)[i] = a, linear.Second(block)[i] = b;
        }
      },
      [&](int64_t image) {
        const int64_t block = s.BlockOf(image), at = image * s.ImageSize();
        ApplyGradient<kShortcut, kRelu>(
            s, x + at, kShortcut ? y + at : nullptr, dy + at, coefficients.First(block),
            coefficients.Second(block), linear.First(block), linear.Second(block),
            dx + at, kShortcut ? dshortcut + at : nullptr);
      });
  for (int64_t c = 0; c < s.channels; ++c) {
    const auto [to_scale, to_bias] = parameters.Sum(0, s.Blocks(), 1, c);
    dscale[c] = to_scale, dbias[c] = to_bias;
  }
}

}  // namespace normalization
