// The shapes of a convolution.

#pragma once

#include <cstdint>

enum class Pass { kOutput, kInputGradient, kKernelGradient };

// Images [batch, height, width, in], kernel [kernel_height, kernel_width, in, out].
struct Convolution {
  int64_t batch, height, width, in;
  int64_t kernel_height, kernel_width, out;
  int64_t out_height, out_width;
  int64_t stride_height, stride_width;
  int64_t top, bottom, left, right;  // padding

  int64_t InputSize() const { return height * width * in; }  // floats of one image
  int64_t OutputSize() const { return out_height * out_width * out; }
  int64_t KernelSize() const { return kernel_height * kernel_width * in * out; }
};
