"""Modal form of long convolutions: poles and residues whose few modes are nearest to given filters.

A filter h_t = sum_m Re(residue_m pole_m^t), with a free first tap beside it, is a recurrence of as many complex numbers
as it has modes (`ops.gated_conv`). `hankel` tells how many a filter needs, `poles` finds the poles by balanced
truncation, `residues` solves for what is linear, `refine` moves the poles downhill, `fitting` does all of it.
"""

from .fitting import Modes, fit, impulse_response
from .hankel import Spectrum, spectrum

__all__ = ["Modes", "Spectrum", "fit", "impulse_response", "spectrum"]
