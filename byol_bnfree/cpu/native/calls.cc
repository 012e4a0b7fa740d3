// Convolutions and normalizations of float32 images as XLA custom calls.
//
// Images are [b h w c], kernels [h w c d], both dense, as JAX holds them on a CPU. Work is
// shared among the threads of XLA's own pool, so two calls that XLA starts side by side
// share the cores instead of fighting for them; the same call gives the same bits.
//
// Every call enters by `Checked`: shapes, sizes and counts are compared first, because
// the code behind reads memory by them, and no exception gets out, because XLA has none.

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "direct.h"
#include "normalization.h"
#include "parallel.h"
#include "pointwise.h"
#include "shape.h"
#include "standardization.h"
#include "winograd.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Buffer = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::ResultBuffer<ffi::F32, 4>;
using Pixels = ffi::Buffer<ffi::F32, 3>;
using PixelsResult = ffi::ResultBuffer<ffi::F32, 3>;
using Any = ffi::Buffer<ffi::F32>;
using AnyResult = ffi::ResultBuffer<ffi::F32>;
using Numbers = ffi::Span<const int64_t>;

namespace {

// Does the work of a call on as many threads as XLA's pool has.
template <typename Work>
ffi::Error Checked(Work work) {
  try {
    OneThread one;
    work();
  } catch (const std::invalid_argument& error) {
    return ffi::Error::InvalidArgument(error.what());
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                      "the CPU kernels: no memory is left for what a layer keeps aside");
  } catch (const dnnl::error& error) {
    const auto code = error.status == dnnl_out_of_memory
                          ? ffi::ErrorCode::kResourceExhausted
                          : ffi::ErrorCode::kInternal;
    return ffi::Error(code, std::string("the CPU kernels: ") + error.what());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("the CPU kernels: ") + error.what());
  }
  return ffi::Error::Success();
}

void Require(bool holds, const char* otherwise) {
  if (!holds) throw std::invalid_argument(std::string("the CPU kernels: ") + otherwise);
}

void Convolve(ffi::ThreadPool& pool, Pass pass, const Convolution& c, float* x,
              float* kernel, float* y) {
  // `direct` takes every shape. The other two take those that they compute faster.
  if (winograd::Applies(c)) {
    if (pass == Pass::kOutput) return winograd::Output(pool, c, x, kernel, y);
    if (pass == Pass::kInputGradient)
      return winograd::InputGradient(pool, c, x, kernel, y);
    return winograd::KernelGradient(pool, c, x, kernel, y);
  }
  if (pointwise::Applies(c)) {
    if (pass == Pass::kOutput) return pointwise::Output(pool, c, x, kernel, y);
    if (pass == Pass::kInputGradient)
      return pointwise::InputGradient(pool, c, x, kernel, y);
    return pointwise::KernelGradient(pool, c, x, kernel, y);
  }
  if (pass == Pass::kKernelGradient) return direct::ByKernel(pool, c, x, kernel, y);
  direct::ByImages(pool, pass, c, x, kernel, y);
}

// With `epsilon`, the kernel that is convolved with is `raw`'s standardized one, and its
// gradient that of `raw`; neither is ever a whole array of XLA's.
void ConvolveStandardized(ffi::ThreadPool& pool, Pass pass, const Convolution& c,
                          float epsilon, float* x, const float* raw, float* kernel,
                          float* y) {
  static thread_local Workspace own;
  const standardization::Shape shape{c.KernelSize() / c.out, c.out, epsilon};
  float* standardized = own.Get(c.KernelSize());
  if (pass != Pass::kKernelGradient)
    standardization::Forward(pool, shape, raw, standardized);
  Convolve(pool, pass, c, x, standardized, y);
  if (pass == Pass::kKernelGradient)
    standardization::Backward(pool, shape, raw, standardized, kernel);
}

// Outputs along an axis of padded inputs, as `lax.conv_general_dilated` counts them.
int64_t Outputs(int64_t size, int64_t low, int64_t high, int64_t kernel, int64_t stride) {
  return (size + low + high - kernel) / stride + 1;
}

Convolution ConvolutionOf(const Buffer& input, const Buffer& kernel, const Buffer& output,
                          Numbers strides, Numbers padding) {
  const auto x = input.dimensions(), k = kernel.dimensions(), y = output.dimensions();
  Require(strides.size() == 2 && padding.size() == 4, "two strides and four paddings");
  Require(std::min(strides[0], strides[1]) > 0, "strides are 1 or more");
  for (const int64_t zeros : padding)
    Require(zeros >= 0, "padding is 0 or more; XLA's kernels cut edges off");
  for (const auto& sizes : {x, k, y})
    for (const int64_t size : sizes) Require(size > 0, "a convolution of an empty array");
  const Convolution c{x[0],       x[1],       x[2],       x[3],       k[0],
                      k[1],       k[3],       y[1],       y[2],       strides[0],
                      strides[1], padding[0], padding[1], padding[2], padding[3]};
  Require(k[2] == c.in, "the kernel's input channels are not those of the images");
  Require(c.height + c.top + c.bottom >= c.kernel_height &&
              c.width + c.left + c.right >= c.kernel_width,
          "the kernel is larger than the padded images");
  Require(y[0] == c.batch && y[3] == c.out &&
              c.out_height == Outputs(c.height, c.top, c.bottom, c.kernel_height,
                                      c.stride_height) &&
              c.out_width ==
                  Outputs(c.width, c.left, c.right, c.kernel_width, c.stride_width),
          "the output's sizes do not follow from images, kernel, strides and padding");
  return c;
}

ffi::Error Call(ffi::ThreadPool pool, Pass pass, const Buffer& input,
                const Buffer& kernel, const Buffer& output, Numbers strides,
                Numbers padding, float epsilon, const float* raw) {
  return Checked([&] {
    const Convolution c = ConvolutionOf(input, kernel, output, strides, padding);
    float *in = input.typed_data(), *w = kernel.typed_data(),
          *out = output.typed_data();
    if (epsilon > 0)
      ConvolveStandardized(pool, pass, c, epsilon, in, raw, w, out);
    else
      Convolve(pool, pass, c, in, w, out);
  });
}

ffi::Error Output(ffi::ThreadPool pool, Buffer input, Buffer kernel, Result output,
                  Numbers strides, Numbers padding, float epsilon) {
  return Call(pool, Pass::kOutput, input, kernel, *output, strides, padding, epsilon,
              kernel.typed_data());
}

ffi::Error InputGradient(ffi::ThreadPool pool, Buffer cotangent, Buffer kernel,
                         Result input, Numbers strides, Numbers padding,
                         float epsilon) {
  return Call(pool, Pass::kInputGradient, *input, kernel, cotangent, strides, padding,
              epsilon, kernel.typed_data());
}

ffi::Error KernelGradient(ffi::ThreadPool pool, Buffer input, Buffer kernel,
                          Buffer cotangent, Result gradient, Numbers strides,
                          Numbers padding, float epsilon) {
  return Call(pool, Pass::kKernelGradient, input, *gradient, cotangent, strides,
              padding, epsilon, kernel.typed_data());
}

normalization::Shape ShapeOf(const Pixels& x, int64_t images, int64_t views,
                             int64_t groups) {
  const auto d = x.dimensions();
  for (const int64_t size : d) Require(size > 0, "a normalization of an empty array");
  Require(std::min({images, views, groups}) > 0, "images, views and groups are 1 or more");
  Require(d[0] % (images * views) == 0, "blocks of images do not divide the batch");
  Require(d[2] % groups == 0, "groups do not divide the channels");
  return {d[0], d[1], d[2], images, views, groups};
}

// An array of so many numbers, or an empty one where `optional` says so.
float* DataOf(const Any& array, int64_t size, bool optional = false) {
  const int64_t found = array.element_count();
  if (optional && found == 0) return nullptr;
  Require(found == size, "an array beside the images has another size than they ask for");
  return array.typed_data();
}

// The variant of a function for whether there is a shortcut, and a ReLU.
#define VARIANT(function, shortcut, relu)                        \
  (shortcut ? (relu ? function<true, true> : function<true, false>) \
            : (relu ? function<false, true> : function<false, false>))

ffi::Error Moments(ffi::ThreadPool pool, Pixels x, AnyResult mean, AnyResult variance,
                   int64_t images, int64_t views, int64_t groups) {
  return Checked([&] {
    const auto s = ShapeOf(x, images, views, groups);
    const int64_t count = s.Blocks() * s.groups;
    normalization::AllMoments(pool, s, x.typed_data(), DataOf(*mean, count),
                              DataOf(*variance, count));
  });
}

// Statistics are given, or found here and handed out.
ffi::Error Normalize(ffi::ThreadPool pool, Pixels x, Any scale, Any bias, Any shortcut,
                     Any known_mean, Any known_variance, PixelsResult y, AnyResult mean,
                     AnyResult variance, int64_t images, int64_t views, int64_t groups,
                     bool relu, float epsilon) {
  using namespace normalization;
  return Checked([&] {
    const auto s = ShapeOf(x, images, views, groups);
    const int64_t count = s.Blocks() * s.groups, size = x.element_count();
    const float* more = DataOf(shortcut, size, true);
    float *m = DataOf(known_mean, count, true), *v = DataOf(known_variance, count, true);
    Require((m == nullptr) == (v == nullptr), "a mean without a variance");
    const auto forward =
        m ? VARIANT(ForwardBy, more, relu) : VARIANT(Forward, more, relu);
    if (!m) m = DataOf(*mean, count), v = DataOf(*variance, count);
    forward(pool, s, epsilon, x.typed_data(), DataOf(scale, s.channels),
            DataOf(bias, s.channels), more, y->typed_data(), m, v);
  });
}

ffi::Error NormalizeGradient(ffi::ThreadPool pool, Pixels x, Any y, Pixels dy, Any scale,
                             Any bias, Any mean, Any variance, PixelsResult dx,
                             AnyResult dscale, AnyResult dbias, AnyResult dshortcut,
                             int64_t images, int64_t views, int64_t groups, bool relu,
                             float epsilon) {
  using namespace normalization;
  return Checked([&] {
    const auto s = ShapeOf(x, images, views, groups);
    const int64_t count = s.Blocks() * s.groups, size = x.element_count();
    const float* out = DataOf(y, size, true);
    Require(dy.element_count() == x.element_count(), "a cotangent of another size");
    const auto backward = VARIANT(Backward, out, relu);
    backward(pool, s, epsilon, x.typed_data(), out, dy.typed_data(),
             DataOf(scale, s.channels), DataOf(bias, s.channels), DataOf(mean, count),
             DataOf(variance, count), dx->typed_data(), DataOf(*dscale, s.channels),
             DataOf(*dbias, s.channels), DataOf(*dshortcut, out ? size : 0));
  });
}

// Adds what every convolution has beside its arrays.
template <typename Arrays>
auto Convolving(Arrays arrays) {
  return std::move(arrays)
      .template Attr<Numbers>("strides")
      .template Attr<Numbers>("padding")
      .template Attr<float>("epsilon");
}

// Which pixels share statistics.
template <typename Arrays>
auto InBlocks(Arrays&& arrays) {
  return std::move(arrays)
      .template Attr<int64_t>("images")
      .template Attr<int64_t>("views")
      .template Attr<int64_t>("groups");
}

template <typename Arrays>
auto Normalizing(Arrays arrays) {
  return InBlocks(std::move(arrays))
      .template Attr<bool>("relu")
      .template Attr<float>("epsilon");
}

auto OnThreads() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>(); }

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_conv_output, Output,
                              Convolving(OnThreads()
                                             .Arg<Buffer>()     // input
                                             .Arg<Buffer>()     // kernel
                                             .Ret<Buffer>()));  // output
XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_conv_input_gradient, InputGradient,
                              Convolving(OnThreads()
                                             .Arg<Buffer>()     // cotangent
                                             .Arg<Buffer>()     // kernel
                                             .Ret<Buffer>()));  // to the input
XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_conv_kernel_gradient, KernelGradient,
                              Convolving(OnThreads()
                                             .Arg<Buffer>()     // input
                                             .Arg<Buffer>()     // kernel
                                             .Arg<Buffer>()     // cotangent
                                             .Ret<Buffer>()));  // to the kernel
XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_moments, Moments,
                              InBlocks(OnThreads()
                                           .Arg<Pixels>()   // x
                                           .Ret<Any>()      // mean
                                           .Ret<Any>()));   // variance
XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_normalize, Normalize,
                              Normalizing(OnThreads()
                                              .Arg<Pixels>()   // x
                                              .Arg<Any>()      // scale
                                              .Arg<Any>()      // bias
                                              .Arg<Any>()      // shortcut, or empty
                                              .Arg<Any>()      // mean, or empty
                                              .Arg<Any>()      // variance, or empty
                                              .Ret<Pixels>()   // y
                                              .Ret<Any>()      // mean, if not given
                                              .Ret<Any>()));   // variance, the same
XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_normalize_gradient, NormalizeGradient,
                              Normalizing(OnThreads()
                                              .Arg<Pixels>()   // x
                                              .Arg<Any>()      // y, empty: no shortcut
                                              .Arg<Pixels>()   // dy
                                              .Arg<Any>()      // scale
                                              .Arg<Any>()      // bias
                                              .Arg<Any>()      // mean
                                              .Arg<Any>()      // variance
                                              .Ret<Pixels>()   // dx
                                              .Ret<Any>()      // dscale
                                              .Ret<Any>()      // dbias
                                              .Ret<Any>()));   // dshortcut, or empty
