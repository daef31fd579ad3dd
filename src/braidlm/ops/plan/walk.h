// The loop over a plan.
#pragma once

#include "plan.h"

namespace braidlm {

// Runs every operation of a pass, as one member of the team that does so together.
void walk(const Pass& pass, Team& team, int member);

}  // namespace braidlm
