// Channels, many at a time.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

typedef float Vector __attribute__((vector_size(64)));
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

// Calls work(c, zero) for every channel, with vectors as long as there are whole ones.
template <typename Work>
void EachChannel(int64_t channels, Work work) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) work(c, Vector{});
  for (; c < channels; ++c) work(c, 0.0f);
}

// The same with up to four vectors at a time: work<T, n>(c) does channels [c, c + n T).
template <typename Work>
void EachChannels(int64_t channels, Work work) {
  int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes)
    work(c, Vector{}, std::integral_constant<int, 4>{});
  for (; c + kLanes <= channels; c += kLanes)
    work(c, Vector{}, std::integral_constant<int, 1>{});
  for (; c < channels; ++c) work(c, 0.0f, std::integral_constant<int, 1>{});
}
