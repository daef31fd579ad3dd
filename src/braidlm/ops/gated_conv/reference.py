"""FFT convolution over the sequence, modal recurrence for what is carried in and out of it.

Legend: L = tokens of a row; the rest as in the package.
"""

import torch
from torch import Tensor

from ..segments import Carried, Segments, over_rows

# Complex elements of one [channels, M, L] table of powers: bounds the memory of long sequences.
_POWER_ELEMENTS = 1 << 21


def gated_conv(
    u_TD: Tensor,
    gate_TD: Tensor,
    poles_FM: Tensor,
    residues_FM: Tensor,
    d_D: Tensor,
    state_RDM: Tensor,
    segments: Segments,
) -> Carried:
    """Reference implementation of `ops.gated_conv`."""
    real = torch.float64 if state_RDM.dtype == torch.complex128 else torch.float32
    share = u_TD.shape[1] // poles_FM.shape[0]
    poles_DM = poles_FM.repeat_interleave(share, 0)
    residues_DM = residues_FM.to(state_RDM.dtype).repeat_interleave(share, 0)
    d_D = d_D.to(real)

    def step(u_RLD: Tensor, gate_RLD: Tensor, s_RDM: Tensor) -> tuple[Tensor, Tensor]:
        if u_RLD.shape[1] == 1:
            s_RDM = poles_DM.to(s_RDM.dtype) * s_RDM + u_RLD[:, 0, :, None]
            y_RLD = (residues_DM * s_RDM).real.sum(-1)[:, None]
        else:
            y_RLD, s_RDM = _sequence(u_RLD, poles_DM, residues_DM, s_RDM)
        return gate_RLD * y_RLD.addcmul(d_D, u_RLD), s_RDM

    return over_rows(step, (u_TD.to(real), gate_TD.to(real)), state_RDM, segments)


def _sequence(u_RLD: Tensor, poles_DM: Tensor, residues_DM: Tensor, s_RDM: Tensor) -> tuple[Tensor, Tensor]:
    """All channels of L > 1 tokens, a block of channels at a time."""
    length, modes = u_RLD.shape[1], poles_DM.shape[1]
    block = max(1, _POWER_ELEMENTS // (length * modes))
    outputs, states = [], []
    for begin in range(0, poles_DM.shape[0], block):
        part = slice(begin, begin + block)
        y, s = _block(u_RLD[:, :, part], poles_DM[part], residues_DM[part], s_RDM[:, part])
        outputs.append(y)
        states.append(s)
    return torch.cat(outputs, 2), torch.cat(states, 1)


def _block(u_RLD: Tensor, poles_DM: Tensor, residues_DM: Tensor, s_RDM: Tensor) -> tuple[Tensor, Tensor]:
    length = u_RLD.shape[1]
    powers_DML = powers(poles_DM, length + 1).to(s_RDM.dtype)
    u_RDL = u_RLD.transpose(1, 2)

    filter_DL = torch.einsum("dm,dml->dl", residues_DM, powers_DML[:, :, :length]).real
    y_RDL = convolved(u_RDL, filter_DL)
    y_RDL = y_RDL + torch.einsum("rdm,dml->rdl", residues_DM * s_RDM, powers_DML[:, :, 1:]).real

    to_end_DML = powers_DML[:, :, :length].flip(-1)
    added_DMR = torch.matmul(to_end_DML, u_RDL.permute(1, 2, 0).to(s_RDM.dtype))
    s_RDM = powers_DML[:, :, length] * s_RDM + added_DMR.permute(2, 0, 1)
    return y_RDL.transpose(1, 2), s_RDM


def convolved(u_RDL: Tensor, filter_DL: Tensor) -> Tensor:
    """sum_{s<=t} h_{t-s} u_s over dense rows, for filters as long as these."""
    length = u_RDL.shape[-1]
    size = _fft_size(2 * length - 1)
    spectrum = torch.fft.rfft(u_RDL, size) * torch.fft.rfft(filter_DL, size)
    return torch.fft.irfft(spectrum, size)[..., :length]


def powers(poles_DM: Tensor, count: int) -> Tensor:
    """pole^t for t = 0 .. count-1, as complex128 products of two short tables: [D, M, count].

    Phases are multiplied out in float64: in float32, t times an angle loses every digit of the
    phase by a few tens of thousands of tokens. 0^0 is 1, which a complex logarithm would miss.
    """
    poles_DM = poles_DM.to(torch.complex128)
    radius, angle = poles_DM.abs()[..., None], poles_DM.angle()[..., None]
    stride = max(1, int(count**0.5))
    fine = torch.arange(stride, dtype=torch.float64, device=poles_DM.device)
    coarse = torch.arange(0, count, stride, dtype=torch.float64, device=poles_DM.device)
    low = torch.polar(radius.pow(fine), angle * fine)
    high = torch.polar(radius.pow(coarse), angle * coarse)
    return (high[..., :, None] * low[..., None, :]).flatten(-2)[..., :count]


def _fft_size(least: int) -> int:
    """The smallest size of the form {1, 3, 5, 9, 15} 2^k that is not below `least`."""
    return min(odd << max(0, (-(-least // odd) - 1).bit_length()) for odd in (1, 3, 5, 9, 15))
