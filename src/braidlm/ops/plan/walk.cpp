#include "walk.h"

#include <cstring>

namespace braidlm {
namespace {

// Copies the inputs of a recurrence between the rows' activations and their records.
void copy_inputs(const RecurrenceInputs& inputs, const Member& me) {
  const bool from_record = me.pass.kind == Pass::Kind::kAdvance;
  const Range rows = me.share_of(me.pass.rows, 1);
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    float* kept = me.pass.record[b] + inputs.offset;
    for (int i = 0; i < inputs.count; ++i) {
      const BufferSlice& slice = inputs.slices[i];
      float* buffer = me.pass.row(int(b)) + slice.at;
      std::memcpy(from_record ? buffer : kept, from_record ? kept : buffer, slice.width * sizeof(float));
      kept += slice.width;
    }
  }
}

}  // namespace

void walk(const Pass& pass, Team& team, int member) {
  const Member me = {pass, team, member};
  for (int i = 0; i < pass.op_count; ++i) {
    const Op& op = pass.ops[i];
    if (pass.kind == Pass::Kind::kAdvance && !op.inputs) continue;
    if (pass.kind != Pass::Kind::kPlain && op.inputs) {
      copy_inputs(*op.inputs, me);
      team.sync();  // an operation may write where it reads
    }
    op.run(pass.level, op.args, me);
    team.sync();
  }
}

}  // namespace braidlm
