// Threads for kernels: those of torch's OpenMP runtime where there is one, else a pool of our own.
//
// Two sets of threads would fight for the processors: OpenMP's wait for their next work spinning, for
// milliseconds, in which the pool would not get to run.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

namespace braidlm {

// The threads of one parallel call. Every member runs the same function; `sync` is a barrier.
class Team {
 public:
  explicit Team(int size) : size_(size) {}

  int size() const { return size_.load(std::memory_order_relaxed); }

  // Only before the first barrier.
  void resize(int size) { size_.store(size, std::memory_order_relaxed); }

  // Returns once all members have called it.
  void sync();

 private:
  std::atomic<int> size_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> round_{0};
};

// Uses the OpenMP runtime that `library`, which is loaded, is linked with; false if there is none.
bool share_threads(const std::string& library);

// Runs `body(team, member)` for members 0 .. threads-1, of which the caller is member 0. Calls from
// several threads run beside each other on OpenMP's threads, and take turns on the pool's, where a
// call from inside a body would wait forever; none is made.
void run_team(int threads, const std::function<void(Team&, int)>& body);

// Runs `body(begin, end)` over pieces of [0, items), each a multiple of `grain` long but for the last.
void parallel_for(int threads, int64_t items, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

// The part of [0, items) of one member, in multiples of `grain`.
struct Range {
  int64_t begin, end;
};
// Static, so that no instruction-set level uses another one's copy.
static inline Range share(int64_t items, int64_t grain, int members, int member) {
  const int64_t grains = (items + grain - 1) / grain;
  const int64_t begin = grains * member / members * grain, end = grains * (member + 1) / members * grain;
  return {begin < items ? begin : items, end < items ? end : items};
}

}  // namespace braidlm
