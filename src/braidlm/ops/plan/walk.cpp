// The loop over a plan.
#include "walk.h"

namespace braidlm::BRAIDLM_LEVEL {
namespace {

void run_op(const Op& op, const Member& me) {
  switch (op.kind) {
    case Op::Kind::kEmbed:
      return run(*static_cast<const Embed*>(op.args), me);
    case Op::Kind::kEvaluate:
      return run(*static_cast<const Evaluate*>(op.args), me);
    case Op::Kind::kLinear:
      return run(*static_cast<const Linear*>(op.args), me);
    case Op::Kind::kGatedLinear:
      return run(*static_cast<const GatedLinear*>(op.args), me);
    case Op::Kind::kExperts:
      return run(*static_cast<const Experts*>(op.args), me);
    case Op::Kind::kConv:
      return run(*static_cast<const Conv*>(op.args), me);
    case Op::Kind::kMamba:
      return run(*static_cast<const MambaStep*>(op.args), me);
    case Op::Kind::kSsd:
      return run(*static_cast<const SsdStep*>(op.args), me);
    case Op::Kind::kHyena:
      return run(*static_cast<const HyenaStep*>(op.args), me);
    case Op::Kind::kAngles:
      return run(*static_cast<const Angles*>(op.args), me);
    case Op::Kind::kRemember:
      return run(*static_cast<const Remember*>(op.args), me);
    case Op::Kind::kAttend:
      return run(*static_cast<const Attend*>(op.args), me);
  }
}

// Copies what moves a recurrence between the rows' activations and their records.
void exchange(const Moving& moving, const Member& me) {
  const Range rows = me.share_of(me.pass.rows, 1);
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    float* kept = me.pass.record[b] + moving.offset;
    for (int i = 0; i < moving.count; ++i) {
      float* place = me.pass.row(int(b)) + moving.rooms[i].at;
      const bool replay = me.pass.kind == Pass::Kind::kReplay;
      std::memcpy(replay ? place : kept, replay ? kept : place, moving.rooms[i].width * sizeof(float));
      kept += moving.rooms[i].width;
    }
  }
}

void walk(const Pass& pass, Team& team, int member) {
  const Member me = {pass, team, member};
  for (int i = 0; i < pass.op_count; ++i) {
    const Op& op = pass.ops[i];
    if (pass.kind == Pass::Kind::kReplay && !op.moving) continue;
    if (pass.kind != Pass::Kind::kPlain && op.moving) {
      exchange(*op.moving, me);
      team.sync();  // an operation may write where it reads
    }
    run_op(op, me);
    team.sync();
  }
}

}  // namespace

extern const PlanKernels plan_kernels;
const PlanKernels plan_kernels = {walk};

}  // namespace braidlm::BRAIDLM_LEVEL
