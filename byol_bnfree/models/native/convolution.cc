// Convolutions of float32 images as XLA custom calls.
//
// Three passes: output, gradient to the input, gradient to the kernel. Images are
// [b h w c], kernels [h w c d], both dense, as JAX holds them on a CPU. Work is shared
// among the threads of XLA's own pool, so two convolutions that XLA starts side by side
// share the cores instead of fighting for them; the same call gives the same bits.

#include <exception>
#include <string>

#include "direct.h"
#include "parallel.h"
#include "shape.h"
#include "winograd.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Buffer = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::ResultBuffer<ffi::F32, 4>;
using Numbers = ffi::Span<const int64_t>;

namespace {

void Compute(ffi::ThreadPool& pool, Pass pass, const Convolution& c, float* x,
             float* kernel, float* y) {
  if (winograd::Applies(c)) {
    if (pass == Pass::kOutput) return winograd::Output(pool, c, x, kernel, y);
    if (pass == Pass::kInputGradient)
      return winograd::InputGradient(pool, c, x, kernel, y);
    return winograd::KernelGradient(pool, c, x, kernel, y);
  }
  if (pass == Pass::kKernelGradient) return direct::ByKernel(pool, c, x, kernel, y);
  direct::ByImages(pool, pass, c, x, kernel, y);
}

ffi::Error Call(ffi::ThreadPool pool, Pass pass, const Buffer& input,
                const Buffer& kernel, const Buffer& output, Numbers strides,
                Numbers padding) {
  const auto x = input.dimensions(), k = kernel.dimensions(), y = output.dimensions();
  if (input.element_count() == 0 || output.element_count() == 0 || k[0] * k[1] == 0)
    return ffi::Error::InvalidArgument("a convolution of an empty array");
  const Convolution c{x[0],       x[1],       x[2],       x[3],       k[0],
                      k[1],       k[3],       y[1],       y[2],       strides[0],
                      strides[1], padding[0], padding[1], padding[2], padding[3]};
  try {
    OneThread one;
    Compute(pool, pass, c, input.typed_data(), kernel.typed_data(),
            output.typed_data());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

ffi::Error Output(ffi::ThreadPool pool, Buffer input, Buffer kernel, Result output,
                  Numbers strides, Numbers padding) {
  return Call(pool, Pass::kOutput, input, kernel, *output, strides, padding);
}

ffi::Error InputGradient(ffi::ThreadPool pool, Buffer cotangent, Buffer kernel,
                         Result input, Numbers strides, Numbers padding) {
  return Call(pool, Pass::kInputGradient, *input, kernel, cotangent, strides, padding);
}

ffi::Error KernelGradient(ffi::ThreadPool pool, Buffer input, Buffer cotangent,
                          Result kernel, Numbers strides, Numbers padding) {
  return Call(pool, Pass::kKernelGradient, input, *kernel, cotangent, strides, padding);
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Buffer>()
      .Arg<Buffer>()
      .Ret<Buffer>()
      .Attr<Numbers>("strides")
      .Attr<Numbers>("padding");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_conv_output, Output, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_conv_input_gradient, InputGradient, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(byol_conv_kernel_gradient, KernelGradient, Binding());
