// Convolutions of float32 images by oneDNN, as XLA custom calls.
//
// Three passes: output, gradient to the input, gradient to the kernel. Images are
// [b h w c], kernels [h w c d], both dense, as JAX holds them on a CPU. The batch is cut
// into one piece a thread of XLA's own pool; oneDNN runs each piece on the one thread
// that took it, so two convolutions that XLA starts side by side share the cores
// instead of fighting for them. Pieces and the order of their sums depend on the
// number of threads alone: the same call gives the same bits.

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using Dims = memory::dims;
using Buffer = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::ResultBuffer<ffi::F32, 4>;
using Numbers = ffi::Span<const int64_t>;

namespace {

enum class Pass { kOutput, kInputGradient, kKernelGradient };

struct Convolution {  // oneDNN's order: b c h w and d c h w, whatever the layout
  Dims input, kernel, output, strides, low, high;
};

struct Plan {
  dnnl::primitive primitive;
  memory::desc input, kernel, output;  // of one piece; kernel in oneDNN's own layout
  memory::desc scratchpad;
};

dnnl::engine& Cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// oneDNN asks OpenMP how many threads to use; here the answer is one.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

memory::desc Images(const Dims& dims) {
  return memory::desc(dims, memory::data_type::f32, memory::format_tag::nhwc);
}

memory::desc PlainKernel(const Dims& dims) {
  return memory::desc(dims, memory::data_type::f32, memory::format_tag::hwio);
}

template <typename Description>
Plan PlanOf(const Description& d, memory::desc input, memory::desc kernel,
            memory::desc output) {
  return {dnnl::primitive(d), input, kernel, output, d.scratchpad_desc()};
}

Plan MakePlan(Pass pass, const Convolution& c) {
  auto input = Images(c.input), output = Images(c.output);
  memory::desc kernel(c.kernel, memory::data_type::f32, memory::format_tag::any);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto algorithm = dnnl::algorithm::convolution_direct;
  dnnl::convolution_forward::primitive_desc forward(
      Cpu(), dnnl::prop_kind::forward_training, algorithm, input, kernel, output,
      c.strides, c.low, c.high, attributes);
  if (pass == Pass::kOutput)
    return PlanOf(forward, input, forward.weights_desc(), output);
  if (pass == Pass::kInputGradient) {
    dnnl::convolution_backward_data::primitive_desc backward(
        Cpu(), algorithm, input, kernel, output, c.strides, c.low, c.high, forward,
        attributes);
    return PlanOf(backward, input, backward.weights_desc(), output);
  }
  dnnl::convolution_backward_weights::primitive_desc backward(
      Cpu(), algorithm, input, kernel, output, c.strides, c.low, c.high, forward,
      attributes);
  return PlanOf(backward, input, backward.diff_weights_desc(), output);
}

// Plans are made once for each pass and shape, and never freed.
const Plan& PlanFor(Pass pass, const Convolution& c) {
  static std::mutex mutex;
  static std::map<std::vector<int64_t>, std::unique_ptr<Plan>> plans;
  std::vector<int64_t> key{static_cast<int64_t>(pass)};
  for (const auto* dims : {&c.input, &c.kernel, &c.output, &c.strides, &c.low, &c.high})
    key.insert(key.end(), dims->begin(), dims->end());
  std::lock_guard<std::mutex> lock(mutex);
  auto& plan = plans[key];
  if (!plan) plan = std::make_unique<Plan>(MakePlan(pass, c));
  return *plan;
}

// Memory that grows to the largest use of this thread and is kept.
class Workspace {
 public:
  float* Get(size_t bytes) {
    if (bytes > size_) {
      size_ = (bytes + 63) / 64 * 64;
      data_.reset(static_cast<float*>(std::aligned_alloc(64, size_)));
      if (!data_) throw std::bad_alloc();
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  size_t size_ = 0;
};

void Reorder(const memory::desc& from, float* source, const memory::desc& to,
             float* target) {
  memory a(from, Cpu(), source), b(to, Cpu(), target);
  dnnl::stream stream(Cpu());
  dnnl::reorder(a, b).execute(stream, a, b);
  stream.wait();
}

void Run(const Plan& plan, Pass pass, float* input, float* kernel, float* output) {
  static thread_local Workspace scratch;
  const bool to_input = pass == Pass::kInputGradient;
  const bool to_kernel = pass == Pass::kKernelGradient;
  std::unordered_map<int, memory> arguments{
      {to_input ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, {plan.input, Cpu(), input}},
      {to_kernel ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS,
       {plan.kernel, Cpu(), kernel}},
      {pass == Pass::kOutput ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST,
       {plan.output, Cpu(), output}},
      {DNNL_ARG_SCRATCHPAD,
       {plan.scratchpad, Cpu(), scratch.Get(plan.scratchpad.get_size())}}};
  dnnl::stream stream(Cpu());
  plan.primitive.execute(stream, arguments);
  stream.wait();
}

// Calls work(i) for every i below `pieces`, on the pool's threads and on this one,
// which takes pieces too: it never waits for work that nobody has begun.
template <typename Work>
void InParallel(ffi::ThreadPool& pool, int64_t pieces, Work work) {
  struct Shared {
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable ready;
    int64_t done = 0;
    std::exception_ptr error;
  };
  auto shared = std::make_shared<Shared>();
  auto take = [shared, pieces, &work] {
    OneThread one;
    for (int64_t i = shared->next++; i < pieces; i = shared->next++) {
      std::exception_ptr error;
      try {
        work(i);
      } catch (...) {
        error = std::current_exception();
      }
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (error) shared->error = error;
      if (++shared->done == pieces) shared->ready.notify_all();
    }
  };
  for (int64_t i = 1; i < pieces; ++i) pool.Schedule(decltype(take)(take));
  take();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->ready.wait(lock, [&] { return shared->done == pieces; });
  if (shared->error) std::rethrow_exception(shared->error);
}

Dims ChannelsSecond(ffi::Span<const int64_t> d) { return {d[0], d[3], d[1], d[2]}; }

int64_t Size(const Dims& dims) {
  int64_t size = 1;
  for (int64_t d : dims) size *= d;
  return size;
}

// A convolution cut into one piece of the batch a thread.
class Pieces {
 public:
  Pieces(ffi::ThreadPool& pool, Pass pass, const Convolution& whole)
      : pass_(pass), whole_(whole), batch_(whole.input[0]) {
    count = std::clamp<int64_t>(pool.num_threads(), 1, batch_);
  }

  const Plan& PlanOf(int64_t piece) const {
    Convolution part = whole_;
    part.input[0] = part.output[0] = Start(piece + 1) - Start(piece);
    return PlanFor(pass_, part);
  }
  float* Input(float* all, int64_t piece) const {
    return all + Start(piece) * (Size(whole_.input) / batch_);
  }
  float* Output(float* all, int64_t piece) const {
    return all + Start(piece) * (Size(whole_.output) / batch_);
  }

  int64_t count;

 private:
  int64_t Start(int64_t piece) const { return batch_ * piece / count; }

  Pass pass_;
  const Convolution& whole_;
  int64_t batch_;
};

// The output, or the gradient to the input: every piece writes its own images.
void ByImages(ffi::ThreadPool& pool, Pass pass, const Convolution& whole, float* input,
              float* kernel, float* output) {
  static thread_local Workspace shared;
  const Pieces pieces(pool, pass, whole);
  const auto plain = PlainKernel(whole.kernel);
  const Plan& first = pieces.PlanOf(0);
  float* packed = shared.Get(first.kernel.get_size());
  Reorder(plain, kernel, first.kernel, packed);
  InParallel(pool, pieces.count, [&](int64_t i) {
    static thread_local Workspace own;  // a piece of another size may want another layout
    const Plan& plan = pieces.PlanOf(i);
    float* mine = packed;
    if (plan.kernel != first.kernel) {
      mine = own.Get(plan.kernel.get_size());
      Reorder(plain, kernel, plan.kernel, mine);
    }
    Run(plan, pass, pieces.Input(input, i), mine, pieces.Output(output, i));
  });
}

// The gradient to the kernel: the sum of what every piece finds, in their order.
void ByKernel(ffi::ThreadPool& pool, const Convolution& whole, float* input,
              float* kernel, float* output) {
  static thread_local Workspace shared;
  const Pieces pieces(pool, Pass::kKernelGradient, whole);
  const auto plain = PlainKernel(whole.kernel);
  const int64_t size = Size(whole.kernel);
  float* partial = shared.Get(pieces.count * size * sizeof(float));
  InParallel(pool, pieces.count, [&](int64_t i) {
    static thread_local Workspace own;
    const Plan& plan = pieces.PlanOf(i);
    float* mine = own.Get(plan.kernel.get_size());
    Run(plan, Pass::kKernelGradient, pieces.Input(input, i), mine,
        pieces.Output(output, i));
    Reorder(plan.kernel, mine, plain, partial + i * size);
  });
  std::memcpy(kernel, partial, size * sizeof(float));
  for (int64_t i = 1; i < pieces.count; ++i)
    for (int64_t j = 0; j < size; ++j) kernel[j] += partial[i * size + j];
}

ffi::Error Call(ffi::ThreadPool pool, Pass pass, const Buffer& input,
                const Buffer& kernel, const Buffer& output, Numbers strides,
                Numbers padding) {
  const auto k = kernel.dimensions();
  if (input.element_count() == 0 || output.element_count() == 0 || k[0] * k[1] == 0)
    return ffi::Error::InvalidArgument("a convolution of an empty array");
  Convolution c{ChannelsSecond(input.dimensions()),
                {k[3], k[2], k[0], k[1]},
                ChannelsSecond(output.dimensions()),
                {strides[0], strides[1]},
                {padding[0], padding[2]},
                {padding[1], padding[3]}};
  try {
    OneThread one;
    float *x = input.typed_data(), *w = kernel.typed_data(), *y = output.typed_data();
    if (pass == Pass::kKernelGradient)
      ByKernel(pool, c, x, w, y);
    else
      ByImages(pool, pass, c, x, w, y);
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
