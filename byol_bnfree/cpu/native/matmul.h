// Matrix products with oneDNN, on the calling thread.

#pragma once

#include <cstdint>
#include <vector>

#include "parallel.h"
#include "plans.h"

// A matrix, or several in a batch; strides are in floats.
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
  static Plans<Primitive> plans;
  std::vector<int64_t> key{add};
  for (const Matrix* m : {&a, &b, &c}) {
    key.insert(key.end(), m->dims.begin(), m->dims.end());
    key.insert(key.end(), m->strides.begin(), m->strides.end());
  }
  const Primitive& plan = plans.Get(key, [&] {
    const auto of = [](const Matrix& m) {
      return memory::desc(m.dims, memory::data_type::f32, m.strides);
    };
    auto attributes = OwnScratchpad();
    if (add) {
      dnnl::post_ops sum;
      sum.append_sum();
      attributes.set_post_ops(sum);
    }
    dnnl::matmul::primitive_desc d(Cpu(), of(a), of(b), of(c), attributes);
    return Primitive(
        dnnl::matmul(d),
        {{DNNL_ARG_SRC, of(a)}, {DNNL_ARG_WEIGHTS, of(b)}, {DNNL_ARG_DST, of(c)}},
        d.scratchpad_desc());
  });
  plan.Run({const_cast<float*>(a_data), const_cast<float*>(b_data), c_data});
}
