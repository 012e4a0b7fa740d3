// oneDNN's engine, and primitives made once for each shape.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"

using dnnl::memory;
using Dims = memory::dims;

inline dnnl::engine& Cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// Plans are made once for each key and never freed.
template <typename Plan>
class Plans {
 public:
  template <typename Make>
  const Plan& Get(const std::vector<int64_t>& key, Make make) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& plan = plans_[key];
    if (!plan) plan = std::make_unique<Plan>(make());
    return *plan;
  }

 private:
  std::mutex mutex_;
  std::map<std::vector<int64_t>, std::unique_ptr<Plan>> plans_;
};
