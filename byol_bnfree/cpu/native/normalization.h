// Normalization of images. It can add a shortcut and apply the ReLU in the same pass.
//
// Statistics belong to blocks of images and groups of channels. In GroupNorm a block is
// one image. In BatchNorm a block is many images and a group is one channel; several
// views lie side by side and have a block each. Every image is read once for its sums
// and a second time for its result. In GroupNorm the second reading comes from the
// cache.
//
// Forward. A block and group of N numbers has mean m, and r = 1 / sqrt(variance +
// epsilon). A channel has scale s and bias t. Then
//
//   n = (x - m) r      y = s n + t = (s r) x + (t - m s r) = factor x + offset
//
// Backward. Let g be the cotangent of y, after going back through the ReLU; the
// shortcut's cotangent is also g. The parameters' gradients are sums over all pixels of
// a channel:
//
//   ds = sum g n = r (sum g x - m sum g)      dt = sum g
//
// x acts on y in three ways: directly, through m, and through the variance. Together
//
//   dx = r (s g - mean(s g) - n mean(s g n))
//
// with means over the N numbers. (This removes from s g its components along the
// constant and along n: normalization removes these two directions from x.) Collect the
// terms by what varies from pixel to pixel:
//
//   dx = factor g + slope x + level
//   slope = -r^2 mean(s g n)      level = -r mean(s g) - m slope
//
// So only the sums of g and of g x over the pixels are needed, and one reading gives
// both.
//
// Sums over a run of pixels are float. Sums of these sums are double, because
// E[x^2] - E[x]^2 loses digits if the mean is large compared to the deviation.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "parallel.h"
#include "vector.h"

namespace normalization {

struct Shape {
  int64_t batch, pixels, channels;
  int64_t images;  // images in a block
  int64_t views;   // image i belongs to view i % views
  int64_t groups;  // groups of channels

  // Pixels that form a row. With few channels, several pixels together fill a vector.
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

constexpr int64_t kRunFloats = 1 << 12;  // 16 KiB: x and dy of a run fit a core's L1

// Calls work(begin, end, c, zero) for runs of rows. A run stays in the L1 cache while
// all places `c` of its rows are processed.
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

// Sums x and its square for every place in a row.
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

// Computes factor * x + offset, plus the shortcut, then the ReLU, if there are any.
template <bool kShortcut, bool kRelu>
void Apply(const Shape& s, const float* x, const float* factor, const float* offset,
           const float* shortcut, float* y) {
  EachRun(s, [=, step = s.RowSize()](int64_t begin, int64_t end, int64_t c, auto none) {
    using C = decltype(none);
    const C f = C::Of(factor + c), o = C::Of(offset + c);
    for (int64_t i = begin; i < end; i += step) {
      C out = C::Of(x + i) * f + o;
      if constexpr (kShortcut) out = out + C::Of(shortcut + i);
      if constexpr (kRelu) out = out.Relu();
      out.To(y + i);
    }
  });
}

// Returns the cotangent before the ReLU. With a shortcut, the sign comes from the
// output; without one, it is computed again from x.
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

// Sums the cotangent g and the product g x for every place in a row.
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

// Computes dx = factor g + slope x + level, and the shortcut's gradient g.
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

// Statistics of a block's groups, [groups].
struct Statistics {
  Statistics(const Shape& s, float* means, float* variances, int64_t block)
      : mean(means + block * s.groups), variance(variances + block * s.groups) {}
  float *mean, *variance;
};

// Copies the values of a row's first pixel to its other pixels.
inline void Repeat(const Shape& s, float* row) {
  for (int64_t i = s.channels; i < s.RowSize(); ++i) row[i] = row[i - s.channels];
}

// Computes factor = scale / deviation and offset = bias - mean factor for a whole row.
inline void Coefficients(const Shape& s, Statistics of, const float* scale,
                         const float* bias, float epsilon, float* factor,
                         float* offset) {
  for (int64_t g = 0; g < s.groups; ++g) {
    const float mean = of.mean[g], inverse = 1 / std::sqrt(of.variance[g] + epsilon);
    for (int64_t c = g * s.Width(); c < (g + 1) * s.Width(); ++c) {
      factor[c] = scale[c] * inverse;
      offset[c] = bias[c] - mean * factor[c];
    }
  }
  Repeat(s, factor), Repeat(s, offset);
}

// Sums term(i) for all i below `size`. Eight partial sums are independent, so the
// additions do not wait for each other.
template <typename Term>
double Total(int64_t size, Term term) {
  double parts[8]{};
  int64_t i = 0;
  for (; i + 8 <= size; i += 8)
    for (int64_t j = 0; j < 8; ++j) parts[j] += term(i + j);
  for (; i < size; ++i) parts[0] += term(i);
  double total = 0;
  for (const double part : parts) total += part;
  return total;
}

// Two rows of floats for each of some images or blocks. They start at zero.
class Rows {
 public:
  Rows(int64_t count, const Shape& s)
      : count_(count), channels_(s.channels), size_(s.RowSize()) {
    values_.resize(2 * count * size_);
  }
  float* First(int64_t i) { return values_.data() + 2 * i * size_; }
  float* Second(int64_t i) { return First(i) + size_; }

  // Sums every channel over `count` pairs of rows with distance `step`.
  void AddUp(int64_t first, int64_t count, int64_t step, double* sums, double* seconds) {
    std::fill(sums, sums + channels_, 0.0);
    std::fill(seconds, seconds + channels_, 0.0);
    for (int64_t i = first; i < first + count * step; i += step)
      for (int64_t place = 0; place < size_; place += channels_) {
        const float *one = First(i) + place, *two = Second(i) + place;
        for (int64_t c = 0; c < channels_; ++c) sums[c] += one[c], seconds[c] += two[c];
      }
  }
  void AddUpAll(double* sums, double* seconds) { AddUp(0, count_, 1, sums, seconds); }

 private:
  int64_t count_, channels_, size_;
  std::vector<float> values_;
};

// The rows in which an image and its block keep values between the two readings.
struct Place {
  int64_t image, block;  // their numbers
  int64_t image_row, block_row;
};

// Stands for a stage that has nothing to do.
struct Nothing {
  void operator()(const Place&) const {}
};

// Calls before(place) for every block, first(place) for every image, between(place) for
// every block whose images are done, and second(place) for every image. A block of one
// image stays on its thread and in its cache. All blocks of a piece then share their
// rows.
class Blocks {
 public:
  Blocks(xla::ffi::ThreadPool& pool, const Shape& s)
      : pool_(pool), s_(s), pieces_(s.images == 1 ? Pieces(pool, s.batch) : 0) {}

  Rows OfImages() const { return {pieces_ ? pieces_ : s_.batch, s_}; }
  Rows OfBlocks() const { return {pieces_ ? pieces_ : s_.Blocks(), s_}; }

  // Sums over the images of a block.
  void AddUp(Rows& images, const Place& at, double* sums, double* seconds) const {
    if (pieces_)
      images.AddUp(at.image_row, 1, 1, sums, seconds);
    else
      images.AddUp(s_.FirstOf(at.block), s_.images, s_.views, sums, seconds);
  }

  template <typename Before, typename First, typename Between, typename Second>
  void Each(Before before, First first, Between between, Second second) const {
    if (pieces_) {
      ForEach(pool_, s_.batch, [&](int64_t i, int64_t piece) {
        const Place at{i, i, piece, piece};
        before(at), first(at), between(at), second(at);
      });
      return;
    }
    const auto image = [&](int64_t i) {
      return Place{i, s_.BlockOf(i), i, s_.BlockOf(i)};
    };
    const auto block = [](int64_t i) { return Place{-1, i, -1, i}; };
    OfEach(s_.Blocks(), block, before);
    OfEach(s_.batch, image, first);
    OfEach(s_.Blocks(), block, between);
    OfEach(s_.batch, image, second);
  }

 private:
  template <typename PlaceOf, typename Work>
  void OfEach(int64_t size, PlaceOf place_of, Work work) const {
    if constexpr (!std::is_same_v<Work, Nothing>)
      ForEach(pool_, size, [&](int64_t i, int64_t) { work(place_of(i)); });
  }

  xla::ffi::ThreadPool& pool_;
  const Shape& s_;
  int64_t pieces_;
};

// Two sums for every channel, in memory of this thread.
struct Sums {
  explicit Sums(int64_t channels) {
    static thread_local std::vector<double> memory;
    memory.resize(std::max<size_t>(memory.size(), 2 * channels));
    first = memory.data(), second = first + channels;
  }
  double *first, *second;
};

// Computes mean and variance of a block's groups from the sums of its channels.
inline void FromSums(const Shape& s, const Sums& sums, Statistics of) {
  for (int64_t g = 0; g < s.groups; ++g) {
    const auto mean_of = [&, c = g * s.Width()](const double* of_channels) {
      return Total(s.Width(), [=](int64_t i) { return of_channels[c + i]; }) / s.Count();
    };
    const double average = mean_of(sums.first), square = mean_of(sums.second);
    of.mean[g] = average;
    of.variance[g] = std::max(square - average * average, 0.0);  // NaN stays NaN
  }
}

// Computes only mean and variance, for blocks of many images.
inline void AllMoments(xla::ffi::ThreadPool& pool, const Shape& s, const float* x,
                       float* mean, float* variance) {
  const Blocks blocks(pool, s);
  Rows moments = blocks.OfImages();
  blocks.Each(
      Nothing(),
      [&](const Place& at) {
        Moments(s, x + at.image * s.ImageSize(), moments.First(at.image_row),
                moments.Second(at.image_row));
      },
      [&](const Place& at) {
        const Sums sums(s.channels);
        blocks.AddUp(moments, at, sums.first, sums.second);
        FromSums(s, sums, Statistics(s, mean, variance, at.block));
      },
      Nothing());
}

// Normalizes with given statistics.
template <bool kShortcut, bool kRelu>
void ForwardBy(xla::ffi::ThreadPool& pool, const Shape& s, float epsilon, const float* x,
               const float* scale, const float* bias, const float* shortcut, float* y,
               float* mean, float* variance) {
  const Blocks blocks(pool, s);
  Rows coefficients = blocks.OfBlocks();
  blocks.Each(
      [&](const Place& at) {
        Coefficients(s, Statistics(s, mean, variance, at.block), scale, bias, epsilon,
                     coefficients.First(at.block_row),
                     coefficients.Second(at.block_row));
      },
      Nothing(), Nothing(),
      [&](const Place& at) {
        const int64_t i = at.image * s.ImageSize();
        Apply<kShortcut, kRelu>(s, x + i, coefficients.First(at.block_row),
                                coefficients.Second(at.block_row),
                                kShortcut ? shortcut + i : nullptr, y + i);
      });
}

// Computes the statistics and normalizes while the image is in the cache.
template <bool kShortcut, bool kRelu>
void Forward(xla::ffi::ThreadPool& pool, const Shape& s, float epsilon, const float* x,
             const float* scale, const float* bias, const float* shortcut, float* y,
             float* mean, float* variance) {
  const Blocks blocks(pool, s);
  Rows moments = blocks.OfImages(), coefficients = blocks.OfBlocks();
  blocks.Each(
      Nothing(),
      [&](const Place& at) {
        Moments(s, x + at.image * s.ImageSize(), moments.First(at.image_row),
                moments.Second(at.image_row));
      },
      [&](const Place& at) {
        const Sums sums(s.channels);
        blocks.AddUp(moments, at, sums.first, sums.second);
        const Statistics of(s, mean, variance, at.block);
        FromSums(s, sums, of);
        Coefficients(s, of, scale, bias, epsilon, coefficients.First(at.block_row),
                     coefficients.Second(at.block_row));
      },
      [&](const Place& at) {
        const int64_t i = at.image * s.ImageSize();
        Apply<kShortcut, kRelu>(s, x + i, coefficients.First(at.block_row),
                                coefficients.Second(at.block_row),
                                kShortcut ? shortcut + i : nullptr, y + i);
      });
}

template <bool kShortcut, bool kRelu>
void Backward(xla::ffi::ThreadPool& pool, const Shape& s, float epsilon,
              const float* x, const float* y, const float* dy, const float* scale,
              const float* bias, float* mean, float* variance, float* dx, float* dscale,
              float* dbias, float* dshortcut) {
  const Blocks blocks(pool, s);
  Rows moments = blocks.OfImages(), coefficients = blocks.OfBlocks();
  Rows linear = blocks.OfBlocks(), parameters = blocks.OfBlocks();
  blocks.Each(
      [&](const Place& at) {
        Coefficients(s, Statistics(s, mean, variance, at.block), scale, bias, epsilon,
                     coefficients.First(at.block_row),
                     coefficients.Second(at.block_row));
      },
      [&](const Place& at) {
        const int64_t i = at.image * s.ImageSize();
        GradientMoments<kShortcut, kRelu>(
            s, x + i, kShortcut ? y + i : nullptr, dy + i,
            coefficients.First(at.block_row), coefficients.Second(at.block_row),
            moments.First(at.image_row), moments.Second(at.image_row));
      },
      [&](const Place& at) {
        const Sums sums(s.channels);  // of the cotangent, and of its product with x
        blocks.AddUp(moments, at, sums.first, sums.second);
        const Statistics of(s, mean, variance, at.block);
        float *to_scale = parameters.First(at.block_row),
              *to_bias = parameters.Second(at.block_row);
        float *slopes = linear.First(at.block_row), *levels = linear.Second(at.block_row);
        for (int64_t g = 0; g < s.groups; ++g) {
          const double average = of.mean[g];
          const double inverse = 1 / std::sqrt(double{of.variance[g]} + epsilon);
          const int64_t first = g * s.Width();
          double *cotangent = sums.first + first, *product = sums.second + first;
          for (int64_t i = 0; i < s.Width(); ++i) {
            product[i] = (product[i] - average * cotangent[i]) * inverse;  // sum g n
            // Added, because the images of a piece share these rows.
            to_bias[first + i] += cotangent[i], to_scale[first + i] += product[i];
          }
          const auto scaled = [&](const double* of_channels) {
            return Total(s.Width(), [=, to = scale + first](int64_t i) {
              return of_channels[i] * to[i];
            });
          };
          // a and b are the slope and level of the derivation above.
          const double a = -inverse * inverse * scaled(product) / s.Count();
          const double b = -inverse * scaled(cotangent) / s.Count() - a * average;
          std::fill(slopes + first, slopes + first + s.Width(), a);
          std::fill(levels + first, levels + first + s.Width(), b);
        }
        Repeat(s, slopes), Repeat(s, levels);
      },
      [&](const Place& at) {
        const int64_t i = at.image * s.ImageSize();
        ApplyGradient<kShortcut, kRelu>(
            s, x + i, kShortcut ? y + i : nullptr, dy + i,
            coefficients.First(at.block_row), coefficients.Second(at.block_row),
            linear.First(at.block_row), linear.Second(at.block_row), dx + i,
            kShortcut ? dshortcut + i : nullptr);
      });
  const Sums sums(s.channels);
  parameters.AddUpAll(sums.first, sums.second);
  std::copy(sums.first, sums.first + s.channels, dscale);
  std::copy(sums.second, sums.second + s.channels, dbias);
}

}  // namespace normalization
