// Matrix products by oneDNN, on the thread that asks.

#pragma once

#include <cstdint>
#include <vector>

#include "parallel.h"
#include "plans.h"

// A matrix, or several behind each other; strides are in floats.
struct Matrix {
  Dims dims, strides;

  static Matrix Dense(int64_t rows, int64_t columns) {
    return {{rows, columns}, {columns, 1}};
  }
  Matrix Transposed() const {
    Matrix result = *this;
    const size_t last = dims.size() - 1;
    std::swap(result.dims[last], result.dims[last - 1]);
    std::swap(result.strides[last], result.strides[last - 1]);
    return result;
  }
};

// c = a b, or c += a b.
inline void Multiply(const Matrix& a, const float* a_data, const Matrix& b,
                     const float* b_data, const Matrix& c, float* c_data, bool add) {
  struct Plan {
    dnnl::matmul primitive;
    memory::desc a, b, c, scratchpad;
  };
  static Plans<Plan> plans;
  static thread_local Workspace scratch;
  std::vector<int64_t> key{add};
  for (const Matrix* m : {&a, &b, &c}) {
    key.insert(key.end(), m->dims.begin(), m->dims.end());
    key.insert(key.end(), m->strides.begin(), m->strides.end());
  }
  const Plan& plan = plans.Get(key, [&] {
    const auto of = [](const Matrix& m) {
      return memory::desc(m.dims, memory::data_type::f32, m.strides);
    };
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (add) {
      dnnl::post_ops sum;
      sum.append_sum();
      attributes.set_post_ops(sum);
    }
    dnnl::matmul::primitive_desc d(Cpu(), of(a), of(b), of(c), attributes);
    return Plan{dnnl::matmul(d), of(a), of(b), of(c), d.scratchpad_desc()};
  });
  const auto data = [](const float* from) { return const_cast<float*>(from); };
  dnnl::stream stream(Cpu());
  plan.primitive.execute(
      stream, {{DNNL_ARG_SRC, {plan.a, Cpu(), data(a_data)}},
               {DNNL_ARG_WEIGHTS, {plan.b, Cpu(), data(b_data)}},
               {DNNL_ARG_DST, {plan.c, Cpu(), c_data}},
               {DNNL_ARG_SCRATCHPAD,
                {plan.scratchpad, Cpu(),
                 scratch.Get(plan.scratchpad.get_size() / sizeof(float) + 1)}}});
  stream.wait();
}
