#include "threads.h"

#include <dlfcn.h>
#include <pthread.h>

#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace braidlm {
namespace {

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How long to spin before giving the processor away: some tens of microseconds. A decode step meets
// many barriers within a millisecond, and waking a sleeping thread costs as much as several of them.
constexpr int kSpins = 1 << 11;

template <class Done>
void spin_until(Done done) {
  for (int spins = 0; !done(); ++spins) {
    pause();
    if (spins >= kSpins) std::this_thread::yield();
  }
}

struct Call {
  Team& team;
  const std::function<void(Team&, int)>& body;
  std::atomic<int> left;
};

// One thread, which runs what is put into its mailbox. It spins for a moment after a call, because
// the next one often follows at once, and then sleeps, so that torch's threads have the processor.
class Worker {
 public:
  explicit Worker(int member) : member_(member), thread_([this] { loop(); }) {}

  void start(Call* call) {
    call_ = call;
    mail_.fetch_add(1, std::memory_order_release);
    mail_.notify_one();
  }

 private:
  void loop() {
    for (uint32_t read = 0;; ++read) {
      for (int spins = 0; mail_.load(std::memory_order_acquire) == read && spins < kSpins; ++spins) pause();
      mail_.wait(read, std::memory_order_acquire);
      call_->body(call_->team, member_);
      call_->left.fetch_sub(1, std::memory_order_release);
    }
  }

  const int member_;
  Call* call_ = nullptr;
  std::atomic<uint32_t> mail_{0};
  std::thread thread_;
};

class Pool {
 public:
  void run(int threads, const std::function<void(Team&, int)>& body) {
    std::lock_guard<std::mutex> turn(turn_);
    while (int(workers_.size()) + 1 < threads) workers_.push_back(std::make_unique<Worker>(int(workers_.size()) + 1));
    Team team(threads);
    Call call{team, body, threads - 1};
    for (int i = 0; i + 1 < threads; ++i) workers_[i]->start(&call);
    body(team, 0);
    spin_until([&] { return call.left.load(std::memory_order_acquire) == 0; });
  }

 private:
  std::mutex turn_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// The threads of the OpenMP runtime that another library uses, by its entry points.
struct OpenMp {
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags) = nullptr;
  int (*size)() = nullptr;
  int (*member)() = nullptr;

  bool found() const { return parallel && size && member; }
};

OpenMp open_mp;

void run_in_open_mp(int threads, const std::function<void(Team&, int)>& body) {
  struct Shared {
    Team team;
    const std::function<void(Team&, int)>& body;
  } shared{Team(threads), body};
  open_mp.parallel(
      [](void* data) {
        Shared& shared = *static_cast<Shared*>(data);
        // The runtime may give fewer threads than it was asked for; each member notes that before its first barrier.
        shared.team.resize(open_mp.size());
        shared.body(shared.team, open_mp.member());
      },
      &shared, unsigned(threads), 0);
}

// Never destroyed: sleeping workers must not be torn down under a process that is ending.
Pool* pool = nullptr;
std::once_flag made;

// A forked child has none of its parent's threads, and OpenMP would wait for them: it starts over with a pool.
void start_over() {
  pool = new Pool;
  open_mp = {};
}

void prepare() {
  std::call_once(made, [] {
    pool = new Pool;
    pthread_atfork(nullptr, nullptr, start_over);
  });
}

}  // namespace

bool share_threads(const std::string& library) {
  void* loaded = dlopen(library.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (!loaded) return false;
  OpenMp found;
  found.parallel = reinterpret_cast<decltype(found.parallel)>(dlsym(loaded, "GOMP_parallel"));
  found.size = reinterpret_cast<decltype(found.size)>(dlsym(loaded, "omp_get_num_threads"));
  found.member = reinterpret_cast<decltype(found.member)>(dlsym(loaded, "omp_get_thread_num"));
  dlclose(loaded);
  prepare();  // a child that is forked before any kernel ran must not wait for torch's threads either
  if (found.found()) open_mp = found;
  return found.found();
}

void Team::sync() {
  const int size = size_.load(std::memory_order_relaxed);
  if (size == 1) return;
  const uint32_t round = round_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    return;
  }
  spin_until([&] { return round_.load(std::memory_order_acquire) != round; });
}

void run_team(int threads, const std::function<void(Team&, int)>& body) {
  if (threads > 1) {
    prepare();
    return open_mp.found() ? run_in_open_mp(threads, body) : pool->run(threads, body);
  }
  Team alone(1);
  body(alone, 0);
}

void parallel_for(int threads, int64_t items, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t most = (items + grain - 1) / grain;
  const int members = int(threads < most ? threads : (most > 1 ? most : 1));
  run_team(members, [&](Team& team, int member) {
    const Range range = share(items, grain, team.size(), member);
    if (range.begin < range.end) body(range.begin, range.end);
  });
}

}  // namespace braidlm
