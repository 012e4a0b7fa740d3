// oneDNN's own convolutions, for every shape.
//
// The batch is cut into one piece per thread. oneDNN runs each piece on a single
// thread. The pieces and the order of their sums depend on the number of threads only,
// so results are reproducible.

#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "parallel.h"
#include "plans.h"
#include "shape.h"

namespace direct {

struct Plan {
  Primitive convolution;  // of one piece's input, kernel and output
  Primitive reorder;      // converts the kernel between JAX's layout and oneDNN's
  memory::desc kernel;    // the kernel in oneDNN's layout
};

inline memory::desc Images(const Dims& dims) {
  return memory::desc(dims, memory::data_type::f32, memory::format_tag::nhwc);
}

inline memory::desc PlainKernel(const Convolution& c) {
  return memory::desc({c.out, c.in, c.kernel_height, c.kernel_width},
                      memory::data_type::f32, memory::format_tag::hwio);
}

// oneDNN's 1x1 kernel gradient copies the pixels that strides meet into a scratchpad. It
// copies a vector of channels per pixel, but the scratchpad holds the channels of the
// images only. If these are fewer, it writes behind the scratchpad
// (github.com/uxlfoundation/oneDNN/issues/6035). The widest vector has 16 numbers.
inline bool WritesBehindScratchpad(const Convolution& c) {
  return c.kernel_height * c.kernel_width == 1 &&
         std::max(c.stride_height, c.stride_width) > 1 && c.in < 16;
}

// The first implementation that has no such scratchpad.
template <typename Description>
Description NotPointwise(Description d) {
  while (std::string(d.impl_info_str()).find("1x1") != std::string::npos)
    if (!d.next_impl())
      throw std::runtime_error("oneDNN has no safe kernel gradient of this shape");
  return d;
}

// oneDNN's first choice computes one matrix product per row of outputs. If a row is
// short or has little work, its other implementation is up to twice as fast.
inline bool RowsAreSmall(const Convolution& c) {
  return c.out_width <= 4 ||
         c.out_width * c.kernel_height * c.kernel_width * c.in * c.out <= 1 << 18;
}

template <typename Description>
Description NotByRows(const Description& first) {
  for (Description d = first;;) {
    const std::string name = d.impl_info_str();
    if (name.rfind("jit", 0) == 0) return d;
    if (name.rfind("brg", 0) != 0 || !d.next_impl()) return first;
  }
}

inline Primitive Reorder(const memory::desc& from, const memory::desc& to) {
  dnnl::reorder::primitive_desc d(Cpu(), from, Cpu(), to, OwnScratchpad());
  return {dnnl::reorder(d),
          {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}},
          d.scratchpad_desc()};
}

// The kernel is the second argument. If its name says gradient, it is a result.
template <typename Description>
Plan PlanOf(const Convolution& c, const Description& d, Primitive::Arguments arguments) {
  const auto [name, own] = arguments[1];
  const auto plain = PlainKernel(c);
  const bool found = name == DNNL_ARG_DIFF_WEIGHTS;
  return {{dnnl::primitive(d), std::move(arguments), d.scratchpad_desc()},
          found ? Reorder(own, plain) : Reorder(plain, own),
          own};
}

inline Plan MakePlan(Pass pass, const Convolution& c) {
  auto input = Images({c.batch, c.in, c.height, c.width});
  auto output = Images({c.batch, c.out, c.out_height, c.out_width});
  memory::desc kernel(PlainKernel(c).get_dims(), memory::data_type::f32,
                      memory::format_tag::any);
  const Dims strides{c.stride_height, c.stride_width};
  const Dims low{c.top, c.left}, high{c.bottom, c.right};
  const auto attributes = OwnScratchpad();
  const auto algorithm = dnnl::algorithm::convolution_direct;
  dnnl::convolution_forward::primitive_desc forward(
      Cpu(), dnnl::prop_kind::forward_training, algorithm, input, kernel, output,
      strides, low, high, attributes);
  if (pass == Pass::kOutput) {
    const auto d = RowsAreSmall(c) ? NotByRows(forward) : forward;
    return PlanOf(c, d, {{DNNL_ARG_SRC, input},
                         {DNNL_ARG_WEIGHTS, d.weights_desc()},
                         {DNNL_ARG_DST, output}});
  }
  if (pass == Pass::kInputGradient) {
    dnnl::convolution_backward_data::primitive_desc backward(
        Cpu(), algorithm, input, kernel, output, strides, low, high, forward,
        attributes);
    const auto d = RowsAreSmall(c) ? NotByRows(backward) : backward;
    return PlanOf(c, d, {{DNNL_ARG_DIFF_SRC, input},
                         {DNNL_ARG_WEIGHTS, d.weights_desc()},
                         {DNNL_ARG_DIFF_DST, output}});
  }
  dnnl::convolution_backward_weights::primitive_desc backward(
      Cpu(), algorithm, input, kernel, output, strides, low, high, forward, attributes);
  const auto d = WritesBehindScratchpad(c) ? NotPointwise(backward) : backward;
  return PlanOf(c, d, {{DNNL_ARG_SRC, input},
                       {DNNL_ARG_DIFF_WEIGHTS, d.diff_weights_desc()},
                       {DNNL_ARG_DIFF_DST, output}});
}

inline const Plan& PlanFor(Pass pass, Convolution c, int64_t images) {
  static Plans<Plan> plans;
  c.batch = images;
  return plans.Get({static_cast<int64_t>(pass), c.batch, c.height, c.width, c.in,
                    c.kernel_height, c.kernel_width, c.out, c.out_height, c.out_width,
                    c.stride_height, c.stride_width, c.top, c.bottom, c.left, c.right},
                   [&] { return MakePlan(pass, c); });
}

// Computes the output or the input gradient. Every piece writes its own images.
inline void ByImages(xla::ffi::ThreadPool& pool, Pass pass, const Convolution& c,
                     float* input, float* kernel, float* output) {
  static thread_local Workspace shared;
  const int64_t pieces = std::clamp<int64_t>(pool.num_threads(), 1, c.batch);
  const Plan& first = PlanFor(pass, c, Part(c.batch, 0, pieces).end);
  float* packed = shared.Get(Floats(first.kernel));
  first.reorder.Run({kernel, packed});
  InParallel(pool, pieces, [&](int64_t i) {
    static thread_local Workspace own;  // pieces of another size may need another layout
    const auto [begin, end] = Part(c.batch, i, pieces);
    const Plan& plan = PlanFor(pass, c, end - begin);
    float* mine = packed;
    if (plan.kernel != first.kernel) {
      mine = own.Get(Floats(plan.kernel));
      plan.reorder.Run({kernel, mine});
    }
    plan.convolution.Run({input + begin * c.InputSize(), mine,
                          output + begin * c.OutputSize()});
  });
}

// Computes the kernel gradient: the sum over the pieces, always in the same order.
inline void ByKernel(xla::ffi::ThreadPool& pool, const Convolution& c, float* input,
                     float* kernel, float* output) {
  static thread_local Workspace shared;
  const int64_t pieces = std::clamp<int64_t>(pool.num_threads(), 1, c.batch);
  const int64_t size = c.KernelSize();
  float* partial = shared.Get(pieces * size);
  InParallel(pool, pieces, [&](int64_t i) {
    static thread_local Workspace own;
    const auto [begin, end] = Part(c.batch, i, pieces);
    const Plan& plan = PlanFor(Pass::kKernelGradient, c, end - begin);
    float* mine = own.Get(Floats(plan.kernel));
    plan.convolution.Run({input + begin * c.InputSize(), mine,
                          output + begin * c.OutputSize()});
    plan.reorder.Run({mine, partial + i * size});
  });
  std::memcpy(kernel, partial, size * sizeof(float));
  for (int64_t i = 1; i < pieces; ++i)
    for (int64_t j = 0; j < size; ++j) kernel[j] += partial[i * size + j];
}

}  // namespace direct
