// oneDNN's engine, and primitives that are made once per shape.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "parallel.h"

using dnnl::memory;
using Dims = memory::dims;

inline dnnl::engine& Cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// One float more, so that an empty description also gets memory.
inline size_t Floats(const memory::desc& d) { return d.get_size() / sizeof(float) + 1; }

inline dnnl::primitive_attr OwnScratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  // $ONEDNN_DEFAULT_FPMATH_MODE may not turn float32 into bfloat16.
  attributes.set_fpmath_mode(dnnl::fpmath_mode::strict);
  return attributes;
}

// A primitive and its arguments; the scratchpad is the last.
class Primitive {
 public:
  using Arguments = std::vector<std::pair<int, memory::desc>>;

  Primitive() = default;
  Primitive(dnnl::primitive primitive, Arguments arguments, memory::desc scratchpad)
      : primitive_(std::move(primitive)), arguments_(std::move(arguments)) {
    arguments_.emplace_back(DNNL_ARG_SCRATCHPAD, scratchpad);
  }

  // Every thread makes oneDNN's objects once, and later only changes their data
  // pointers.
  void Run(std::vector<float*> data) const {
    static thread_local dnnl::stream stream(Cpu());
    static thread_local std::unordered_map<const Primitive*,
                                           std::unordered_map<int, memory>>
        made;
    static thread_local Workspace scratch;
    data.push_back(scratch.Get(Floats(arguments_.back().second)));
    auto& with = made[this];
    for (size_t i = 0; i < data.size(); ++i) {
      const auto& [name, description] = arguments_[i];
      const auto found = with.find(name);
      if (found == with.end())
        with.emplace(name, memory(description, Cpu(), data[i]));
      else
        found->second.set_data_handle(data[i]);
    }
    primitive_.execute(stream, with);
    stream.wait();
  }

 private:
  dnnl::primitive primitive_;
  Arguments arguments_;
};

// Plans are made once per key and never freed.
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
