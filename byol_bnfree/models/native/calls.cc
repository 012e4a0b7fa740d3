// Convolutions and normalizations of float32 images as XLA custom calls.
//
// Images are [b h w c], kernels [h w c d], both dense, as JAX holds them on a CPU. Work is
// shared among the threads of XLA's own pool, so two calls that XLA starts side by side
// share the cores instead of fighting for them; the same call gives the same bits.

#include <exception>
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

void Convolve(ffi::ThreadPool& pool, Pass pass, const Convolution& c, float* x,
              float* kernel, float* y) {
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

ffi::Error Call(ffi::ThreadPool pool, Pass pass, const Buffer& input,
                const Buffer& kernel, const Buffer& output, Numbers strides,
                Numbers padding, float epsilon, const float* raw) {
  const auto x = input.dimensions(), k = kernel.dimensions(), y = output.dimensions();
  if (input.element_count() == 0 || output.element_count() == 0 || k[0] * k[1] == 0)
    return ffi::Error::InvalidArgument("a convolution of an empty array");
  const Convolution c{x[0],       x[1],       x[2],       x[3],       k[0],
                      k[1],       k[3],       y[1],       y[2],       strides[0],
                      strides[1], padding[0], padding[1], padding[2], padding[3]};
  try {
    OneThread one;
    float *in = input.typed_data(), *w = kernel.typed_data(),
          *out = output.typed_data();
    if (epsilon > 0)
      ConvolveStandardized(pool, pass, c, epsilon, in, raw, w, out);
    else
      Convolve(pool, pass, c, in, w, out);
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
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
  return {d[0], d[1], d[2], images, views, groups};
}

// A shortcut that is not there is an empty array.
float* DataOf(const Any& array) {
  return array.element_count() ? array.typed_data() : nullptr;
}

ffi::Error Normalize(ffi::ThreadPool pool, Pixels x, Any scale, Any bias, Any shortcut,
                     PixelsResult y, AnyResult mean, AnyResult variance, int64_t images,
                     int64_t views, int64_t groups, bool relu, float epsilon) {
  using namespace normalization;
  const float* more = DataOf(shortcut);
  const auto forward = more ? (relu ? Forward<true, true> : Forward<true, false>)
                            : (relu ? Forward<false, true> : Forward<false, false>);
  forward(pool, ShapeOf(x, images, views, groups), epsilon, x.typed_data(),
          scale.typed_data(), bias.typed_data(), more, y->typed_data(),
          mean->typed_data(), variance->typed_data());
  return ffi::Error::Success();
}

ffi::Error NormalizeGradient(ffi::ThreadPool pool, Pixels x, Any y, Pixels dy, Any scale,
                             Any bias, Any mean, Any variance, PixelsResult dx,
                             AnyResult dscale, AnyResult dbias, AnyResult dshortcut,
                             int64_t images, int64_t views, int64_t groups, bool relu,
                             float epsilon) {
  using namespace normalization;
  const float* out = DataOf(y);
  const auto backward = out ? (relu ? Backward<true, true> : Backward<true, false>)
                            : (relu ? Backward<false, true> : Backward<false, false>);
  backward(pool, ShapeOf(x, images, views, groups), epsilon, x.typed_data(), out,
           dy.typed_data(), scale.typed_data(), bias.typed_data(), mean.typed_data(),
           variance.typed_data(), dx->typed_data(), dscale->typed_data(),
           dbias->typed_data(), dshortcut->typed_data());
  return ffi::Error::Success();
}

// Adds what every convolution has beside its arrays.
template <typename Arrays>
auto Convolving(Arrays arrays) {
  return std::move(arrays)
      .template Attr<Numbers>("strides")
      .template Attr<Numbers>("padding")
      .template Attr<float>("epsilon");
}

template <typename Arrays>
auto Normalizing(Arrays arrays) {
  return std::move(arrays)
      .template Attr<int64_t>("images")
      .template Attr<int64_t>("views")
      .template Attr<int64_t>("groups")
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
XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_normalize, Normalize,
                              Normalizing(OnThreads()
                                              .Arg<Pixels>()   // x
                                              .Arg<Any>()      // scale
                                              .Arg<Any>()      // bias
                                              .Arg<Any>()      // shortcut, or empty
                                              .Ret<Pixels>()   // y
                                              .Ret<Any>()      // mean
                                              .Ret<Any>()));   // variance
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
