// 3x3 convolutions at stride 1, with 16 multiplications where a direct one takes 36.
//
// This is F(2x2, 3x3) of Lavin and Gray 2015 (arXiv 1509.09308). A tile of 4x4 inputs
// gives 2x2 outputs. Additions transform tiles and kernels. Each of the 16 places of a
// tile then needs a product over the channels. oneDNN computes these as one batched
// product for a block of tiles that stays in a core's cache:
//
//   output           y = At [sum_c (G g Gt) * (Bt x B)] A
//   input gradient   the same, of the cotangent and the kernel turned by 180 degrees
//   kernel gradient  dg = Gt [sum_tiles (Bt x B) * (A dy At)] G
//
// with
//
//        1  0 -1  0         1    0    0
//   Bt = 0  1  1  0    G = 1/2  1/2  1/2    At = 1  1  1  0
//        0 -1  1  0        1/2 -1/2  1/2         0  1 -1 -1
//        0  1  0 -1         0    0    1
//
// The gradients follow from the first line, which is linear in x and in g. The kernel
// gradient is the transpose of this map with respect to g: G becomes Gt, and At becomes
// A. The input gradient is itself a convolution (`Turned`), so the first line computes
// it. The constants are 0, 1 and 1/2, so rounding errors are like those of a direct
// convolution.

#pragma once

#include <algorithm>
#include <vector>

#include "matmul.h"
#include "parallel.h"
#include "shape.h"
#include "vector.h"

namespace winograd {

constexpr int64_t kPlaces = 16;  // places in a tile of 4x4
constexpr int64_t kBlockFloats = 1 << 18;  // floats of tiles: half of a core's L2

constexpr int64_t kFewestChannels = 48;  // with fewer, additions outweigh the products

// The padding is at most 2, because the input gradient has the padding 2 minus it. A
// map of one row or column would leave half of every tile outside.
inline bool Applies(const Convolution& c) {
  return c.kernel_height == 3 && c.kernel_width == 3 && c.stride_height == 1 &&
         c.stride_width == 1 && std::max({c.top, c.bottom, c.left, c.right}) <= 2 &&
         std::min(c.in, c.out) >= kFewestChannels && std::min(c.out_height, c.out_width) >= 2;
}

// Computes Bt x B of one tile. `x` points to the channels of its 16 pixels.
inline void TransformInput(const float* const x[16], int64_t channels, int64_t step,
                           float* v) {
  EachChannel(channels, [=](int64_t c, auto zero) {
    using T = decltype(zero);
    T t[4][4];
    for (int j = 0; j < 4; ++j) {
      const T x0 = Load<T>(x[j] + c), x1 = Load<T>(x[4 + j] + c);
      const T x2 = Load<T>(x[8 + j] + c), x3 = Load<T>(x[12 + j] + c);
      t[0][j] = x0 - x2, t[1][j] = x1 + x2, t[2][j] = x2 - x1, t[3][j] = x1 - x3;
    }
    for (int i = 0; i < 4; ++i) {
      float* to = v + 4 * i * step + c;
      Store(to, t[i][0] - t[i][2]);
      Store(to + step, t[i][1] + t[i][2]);
      Store(to + 2 * step, t[i][2] - t[i][1]);
      Store(to + 3 * step, t[i][1] - t[i][3]);
    }
  });
}

// Computes At m A of one tile, and writes the channels of its 4 pixels.
inline void TransformOutput(const float* m, int64_t channels, int64_t step,
                            float* const y[4]) {
  EachChannel(channels, [=](int64_t c, auto zero) {
    using T = decltype(zero);
    T t[2][4];
    for (int j = 0; j < 4; ++j) {
      const float* from = m + j * step + c;
      const T m0 = Load<T>(from), m1 = Load<T>(from + 4 * step);
      const T m2 = Load<T>(from + 8 * step), m3 = Load<T>(from + 12 * step);
      t[0][j] = m0 + m1 + m2, t[1][j] = m1 - m2 - m3;
    }
    for (int i = 0; i < 2; ++i) {
      Store(y[2 * i] + c, t[i][0] + t[i][1] + t[i][2]);
      Store(y[2 * i + 1] + c, t[i][1] - t[i][2] - t[i][3]);
    }
  });
}

// Computes A dy At of one tile. `y` points to the channels of its 4 pixels.
inline void TransformCotangent(const float* const y[4], int64_t channels, int64_t step,
                               float* w) {
  EachChannel(channels, [=](int64_t c, auto zero) {
    using T = decltype(zero);
    T t[4][2];
    for (int j = 0; j < 2; ++j) {
      const T y0 = Load<T>(y[j] + c), y1 = Load<T>(y[2 + j] + c);
      t[0][j] = y0, t[1][j] = y0 + y1, t[2][j] = y0 - y1, t[3][j] = -y1;
    }
    for (int i = 0; i < 4; ++i) {
      float* to = w + 4 * i * step + c;
      Store(to, t[i][0]);
      Store(to + step, t[i][0] + t[i][1]);
      Store(to + 2 * step, t[i][0] - t[i][1]);
      Store(to + 3 * step, -t[i][1]);
    }
  });
}

// Computes G g Gt along the last axis. `g` points to the 9 taps.
inline void TransformKernel(const float* const g[9], int64_t channels, int64_t step,
                            float* u) {
  EachChannel(channels, [=](int64_t c, auto zero) {
    using T = decltype(zero);
    T t[4][3];
    for (int j = 0; j < 3; ++j) {
      const T g0 = Load<T>(g[j] + c), g1 = Load<T>(g[3 + j] + c);
      const T g2 = Load<T>(g[6 + j] + c);
      const T ends = (g0 + g2) * 0.5f, middle = g1 * 0.5f;
      t[0][j] = g0, t[1][j] = ends + middle, t[2][j] = ends - middle, t[3][j] = g2;
    }
    for (int i = 0; i < 4; ++i) {
      float* to = u + 4 * i * step + c;
      const T ends = (t[i][0] + t[i][2]) * 0.5f, middle = t[i][1] * 0.5f;
      Store(to, t[i][0]);
      Store(to + step, ends + middle);
      Store(to + 2 * step, ends - middle);
      Store(to + 3 * step, t[i][2]);
    }
  });
}

// Computes Gt du G along the last axis, and writes the 9 taps.
inline void TransformKernelGradient(const float* du, int64_t channels, int64_t step,
                                    float* const g[9]) {
  EachChannel(channels, [=](int64_t c, auto zero) {
    using T = decltype(zero);
    T t[3][4];
    for (int j = 0; j < 4; ++j) {
      const float* from = du + j * step + c;
      const T u0 = Load<T>(from), u1 = Load<T>(from + 4 * step);
      const T u2 = Load<T>(from + 8 * step), u3 = Load<T>(from + 12 * step);
      const T sum = (u1 + u2) * 0.5f;
      t[0][j] = u0 + sum, t[1][j] = (u1 - u2) * 0.5f, t[2][j] = sum + u3;
    }
    for (int i = 0; i < 3; ++i) {
      const T sum = (t[i][1] + t[i][2]) * 0.5f;
      Store(g[3 * i] + c, t[i][0] + sum);
      Store(g[3 * i + 1] + c, (t[i][1] - t[i][2]) * 0.5f);
      Store(g[3 * i + 2] + c, sum + t[i][3]);
    }
  });
}

// Describes one matrix for each place of a tile.
inline Matrix AtPlaces(int64_t rows, int64_t columns) {
  return {{kPlaces, rows, columns}, {rows * columns, columns, 1}};
}

// The tiles of a batch of outputs, numbered in a row, and the pixels of each tile.
class Tiles {
 public:
  explicit Tiles(const Convolution& c)
      : c_(c),
        rows_((c.out_height + 1) / 2),
        columns_((c.out_width + 1) / 2),
        outside_(std::max(c.in, c.out)) {}

  int64_t Count() const { return c_.batch * rows_ * columns_; }

  // Blocks of nearly equal size that stay in the cache, equally many per thread. A
  // block has at least 64 tiles, also in wide layers: reading the kernel must pay off.
  int64_t Blocks(int64_t threads) const {
    const int64_t most = kBlockFloats / (kPlaces * (c_.in + c_.out));
    const int64_t size = std::clamp<int64_t>(most, 64, 512);
    const int64_t blocks = (Count() + size - 1) / size;
    return std::min((blocks + threads - 1) / threads * threads, Count());
  }

  void Input(int64_t tile, const float* images, const float* pixels[16]) const {
    const auto [image, y, x] = At(tile);
    const float* first = images + image * c_.InputSize();
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 4; ++j) {
        const int64_t row = y - c_.top + i, column = x - c_.left + j;
        const bool inside =
            row >= 0 && row < c_.height && column >= 0 && column < c_.width;
        pixels[4 * i + j] =
            inside ? first + (row * c_.width + column) * c_.in : outside_.data();
      }
  }

  // Pixels outside of the output point to `outside`.
  template <typename Float>
  void Output(int64_t tile, Float* images, Float* outside, Float* pixels[4]) const {
    const auto [image, y, x] = At(tile);
    Float* first = images + image * c_.OutputSize();
    for (int64_t i = 0; i < 2; ++i)
      for (int64_t j = 0; j < 2; ++j) {
        const bool inside = y + i < c_.out_height && x + j < c_.out_width;
        pixels[2 * i + j] =
            inside ? first + ((y + i) * c_.out_width + x + j) * c_.out : outside;
      }
  }

  const float* Zeros() const { return outside_.data(); }

 private:
  struct Place {
    int64_t image, y, x;
  };
  Place At(int64_t tile) const {
    const int64_t in_image = tile % (rows_ * columns_);
    return {tile / (rows_ * columns_), in_image / columns_ * 2, in_image % columns_ * 2};
  }

  const Convolution& c_;
  int64_t rows_, columns_;
  std::vector<float> outside_;
};

// Computes y from x and the transformed kernel [16 in out].
inline void Convolve(xla::ffi::ThreadPool& pool, const Convolution& c, const float* x,
                     float* u, float* y) {
  const Tiles tiles(c);
  const int64_t blocks = tiles.Blocks(pool.num_threads());
  InParallel(pool, blocks, [&](int64_t block) {
    static thread_local Workspace inputs, outputs, outside;
    const auto [begin, end] = Part(tiles.Count(), block, blocks);
    const int64_t count = end - begin;
    float* v = inputs.Get(kPlaces * count * c.in);
    float* m = outputs.Get(kPlaces * count * c.out);
    for (int64_t t = 0; t < count; ++t) {
      const float* pixels[16];
      tiles.Input(begin + t, x, pixels);
      TransformInput(pixels, c.in, count * c.in, v + t * c.in);
    }
    Multiply(AtPlaces(count, c.in), v, AtPlaces(c.in, c.out), u,
             AtPlaces(count, c.out), m, false);
    for (int64_t t = 0; t < count; ++t) {
      float* pixels[4];
      tiles.Output(begin + t, y, outside.Get(c.out), pixels);
      TransformOutput(m + t * c.out, c.out, count * c.out, pixels);
    }
  });
}

inline void Output(xla::ffi::ThreadPool& pool, const Convolution& c, const float* x,
                   const float* kernel, float* y) {
  static thread_local Workspace transformed;
  float* u = transformed.Get(kPlaces * c.in * c.out);
  const int64_t pieces = pool.num_threads();
  InParallel(pool, pieces, [&](int64_t piece) {
    const auto [begin, end] = Part(c.in, piece, pieces);
    for (int64_t i = begin; i < end; ++i) {
      const float* taps[9];
      for (int64_t k = 0; k < 9; ++k) taps[k] = kernel + (k * c.in + i) * c.out;
      TransformKernel(taps, c.out, c.in * c.out, u + i * c.out);
    }
  });
  Convolve(pool, c, x, u, y);
}

// The convolution that computes the input gradient of `c`. It takes the cotangent and
// the kernel turned by 180 degrees. Its padding lets each input meet all outputs it
// contributed to.
inline Convolution Turned(const Convolution& c) {
  Convolution turned = c;
  std::swap(turned.in, turned.out);
  std::swap(turned.height, turned.out_height);
  std::swap(turned.width, turned.out_width);
  turned.top = 2 - c.top, turned.bottom = 2 - c.bottom;
  turned.left = 2 - c.left, turned.right = 2 - c.right;
  return turned;
}

inline void InputGradient(xla::ffi::ThreadPool& pool, const Convolution& c, float* dx,
                          const float* kernel, const float* dy) {
  static thread_local Workspace transformed;
  float* u = transformed.Get(kPlaces * c.in * c.out);
  const int64_t pieces = (c.out + kLanes - 1) / kLanes;
  InParallel(pool, pieces, [&](int64_t piece) {
    static thread_local Workspace rows;  // [lane][tap][in]
    float* row = rows.Get(kLanes * 9 * c.in);
    const int64_t begin = piece * kLanes, count = std::min(kLanes, c.out - begin);
    for (int64_t k = 0; k < 9; ++k)
      for (int64_t i = 0; i < c.in; ++i) {
        // Tap k of the turned kernel is tap 8 - k. The output channels of a tap lie side
        // by side, so a whole vector of them is read at a time.
        const float* from = kernel + ((8 - k) * c.in + i) * c.out + begin;
        for (int64_t o = 0; o < count; ++o) row[(9 * o + k) * c.in + i] = from[o];
      }
    for (int64_t o = 0; o < count; ++o) {
      const float* taps[9];
      for (int64_t k = 0; k < 9; ++k) taps[k] = row + (9 * o + k) * c.in;
      TransformKernel(taps, c.in, c.in * c.out, u + (begin + o) * c.in);
    }
  });
  Convolve(pool, Turned(c), dy, u, dx);
}

inline void KernelGradient(xla::ffi::ThreadPool& pool, const Convolution& c,
                           const float* x, float* kernel, const float* dy) {
  static thread_local Workspace shared;
  const Tiles tiles(c);
  const int64_t threads = std::min<int64_t>(pool.num_threads(), tiles.Count());
  const int64_t blocks = tiles.Blocks(threads);
  const int64_t size = kPlaces * c.in * c.out;
  float* sums = shared.Get(threads * size);
  InParallel(pool, threads, [&](int64_t thread) {
    static thread_local Workspace inputs, outputs;
    float* mine = sums + thread * size;
    const Range part = Part(blocks, thread, threads);
    for (int64_t block = part.begin; block < part.end; ++block) {
      const auto [begin, end] = Part(tiles.Count(), block, blocks);
      const int64_t count = end - begin;
      float* v = inputs.Get(kPlaces * count * c.in);
      float* w = outputs.Get(kPlaces * count * c.out);
      for (int64_t t = 0; t < count; ++t) {
        const float *in[16], *out[4];
        tiles.Input(begin + t, x, in);
        TransformInput(in, c.in, count * c.in, v + t * c.in);
        tiles.Output(begin + t, dy, tiles.Zeros(), out);
        TransformCotangent(out, c.out, count * c.out, w + t * c.out);
      }
      // The first product of a thread overwrites what an earlier call left in `mine`.
      Multiply(AtPlaces(count, c.in).Transposed(), v, AtPlaces(count, c.out), w,
               AtPlaces(c.in, c.out), mine, block > part.begin);
    }
  });
  // The sums of the threads are added in a fixed order, so results are reproducible.
  InParallel(pool, threads, [&](int64_t piece) {
    const auto [begin, end] = Part(c.in, piece, threads);
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t thread = 1; thread < threads; ++thread)
        for (int64_t k = 0; k < kPlaces; ++k) {
          float* to = sums + (k * c.in + i) * c.out;
          const float* from = to + thread * size;
          for (int64_t o = 0; o < c.out; ++o) to[o] += from[o];
        }
      float* taps[9];
      for (int64_t k = 0; k < 9; ++k) taps[k] = kernel + (k * c.in + i) * c.out;
      TransformKernelGradient(sums + i * c.out, c.out, c.in * c.out, taps);
    }
  });
}

}  // namespace winograd
