// The operations of a pass, each run by every member of a team on its share. Per level.
#pragma once

#include "../csrc/lanes.h"
#include "operand.h"

namespace braidlm::BRAIDLM_LEVEL {

struct Member {
  const Pass& pass;
  Team& team;
  int number;

  char* scratch() const { return pass.scratch + number * pass.scratch_stride; }
  Range share_of(int64_t items, int64_t grain) const { return share(items, grain, team.size(), number); }
};

void run(const Embed&, const Member&);
void run(const Evaluate&, const Member&);
void run(const Linear&, const Member&);
void run(const GatedLinear&, const Member&);
void run(const Experts&, const Member&);
void run(const Conv&, const Member&);
void run(const MambaStep&, const Member&);
void run(const SsdStep&, const Member&);
void run(const HyenaStep&, const Member&);
void run(const Angles&, const Member&);
void run(const Remember&, const Member&);
void run(const Attend&, const Member&);

// Writes values of a product from output `o` on where they belong.
inline void emit(const Output& output, const Pass& pass, int b, int64_t o, int lanes, Floats values) {
  switch (output.kind) {
    case Output::Kind::kStore:
      store_part(pass.row(b) + output.y + o, values * output.scale, lanes);
      break;
    case Output::Kind::kAdd: {
      float* y = pass.row(b) + output.y + o;
      store_part(y, fma(values, splat(output.scale), load_part(y, lanes)), lanes);
      break;
    }
    case Output::Kind::kLogits:
      store_part(pass.logits + b * pass.vocab + o, values * output.scale, lanes);
      break;
  }
}

// body(first, lanes) over vectors of a range, the last one perhaps cut short. One piece of code for
// both, since where a range is cut depends on the number of threads and no number may.
template <class Body>
inline void by_vectors(Range range, Body body) {
  for (int64_t i = range.begin; i < range.end; i += kLanes)
    body(i, int(range.end - i < kLanes ? range.end - i : kLanes));
}

}  // namespace braidlm::BRAIDLM_LEVEL
