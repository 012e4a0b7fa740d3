// Vectors of channels.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

typedef float Vector __attribute__((vector_size(64)));
typedef float HalfVector __attribute__((vector_size(32)));
typedef float QuarterVector __attribute__((vector_size(16)));
constexpr int64_t kLanes = sizeof(Vector) / sizeof(float);

template <typename T>
T Load(const float* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void Store(float* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// Calls work(c, zero) for every channel from `c` on, with the longest vectors that fit.
template <typename Work>
void EachChannel(int64_t channels, Work work, int64_t c = 0) {
  for (; c + kLanes <= channels; c += kLanes) work(c, Vector{});
  if (c + kLanes / 2 <= channels) work(c, HalfVector{}), c += kLanes / 2;
  if (c + kLanes / 4 <= channels) work(c, QuarterVector{}), c += kLanes / 4;
  for (; c < channels; ++c) work(c, 0.0f);
}

// Does the same with up to four vectors at a time: work(c, zero, number of vectors).
template <typename Work>
void EachChannels(int64_t channels, Work work) {
  int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes)
    work(c, Vector{}, std::integral_constant<int, 4>{});
  EachChannel(
      channels,
      [&](int64_t c, auto zero) { work(c, zero, std::integral_constant<int, 1>{}); },
      c);
}

// Several vectors of channels, side by side in registers.
template <typename T, int kCount>
struct Channels {
  static constexpr int64_t kStep = sizeof(T) / sizeof(float);
  T v[kCount];

  static Channels Of(const float* from) {
    return From([=](int i) { return Load<T>(from + i * kStep); });
  }
  static Channels All(float value) {
    return From([=](int) { return T{} + value; });
  }
  void To(float* to) const {
    for (int i = 0; i < kCount; ++i) Store(to + i * kStep, v[i]);
  }
  friend Channels operator+(const Channels& a, const Channels& b) {
    return From([&](int i) { return a.v[i] + b.v[i]; });
  }
  friend Channels operator-(const Channels& a, const Channels& b) {
    return From([&](int i) { return a.v[i] - b.v[i]; });
  }
  friend Channels operator*(const Channels& a, const Channels& b) {
    return From([&](int i) { return a.v[i] * b.v[i]; });
  }
  // Returns max(this, 0). NaN stays NaN, so a diverged network does not look healthy.
  Channels Relu() const {
    return From([&](int i) { return v[i] <= 0 ? T{} : v[i]; });
  }
  // Returns this where `sign` is positive, and 0 where it is not or is NaN.
  Channels Where(const Channels& sign) const {
    return From([&](int i) { return sign.v[i] > 0 ? v[i] : T{}; });
  }
  Channels InverseRoot() const {
    Channels result = *this;
    float* values = reinterpret_cast<float*>(result.v);
    for (int i = 0; i < kCount * kStep; ++i) values[i] = 1 / std::sqrt(values[i]);
    return result;
  }

 private:
  template <typename F>
  static Channels From(F f) {
    Channels result;
    for (int i = 0; i < kCount; ++i) result.v[i] = f(i);
    return result;
  }
};
