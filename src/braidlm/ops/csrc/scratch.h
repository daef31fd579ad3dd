// Working memory of one thread for the length of a call.
#pragma once

#include <cstdlib>
#include <new>

namespace braidlm {

// `count` floats at the start of a cache line, not initialised.
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(static_cast<float*>(std::aligned_alloc(64, (count * 4 + 64) / 64 * 64))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* data() const { return data_; }

 private:
  float* const data_;
};

}  // namespace braidlm
