"""What the operations mean: plain recurrences over single tokens of one row, in float64.

Each takes one row [L, ...] and its state, and returns outputs and the state after it.
"""

import torch
from torch import Tensor


def causal_conv1d(
    x_LC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, tail_CK: Tensor, *, silu: bool
) -> tuple[Tensor, Tensor]:
    taps = weight_CK.shape[1]
    inputs = torch.cat([tail_CK.t(), x_LC])
    outputs = []
    for t in range(len(x_LC)):
        y = (inputs[t : t + taps].t() * weight_CK).sum(1) + (0 if bias_C is None else bias_C)
        outputs.append(y * torch.sigmoid(y) if silu else y)
    return torch.stack(outputs), inputs[len(x_LC) :].t()


def selective_scan(
    x_LE: Tensor, dt_LE: Tensor, a_EN: Tensor, b_LN: Tensor, c_LN: Tensor, d_E: Tensor, h_EN: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = []
    for x, dt, b, c in zip(x_LE, dt_LE, b_LN, c_LN, strict=True):
        h_EN = torch.exp(dt[:, None] * a_EN) * h_EN + (dt * x)[:, None] * b
        outputs.append((h_EN * c).sum(1) + d_E * x)
    return torch.stack(outputs), h_EN


def gated_selective_scan(
    x_LE: Tensor,
    dt_LE: Tensor,
    b_LN: Tensor,
    c_LN: Tensor,
    gate_LE: Tensor,
    a_EN: Tensor,
    d_E: Tensor,
    dt_bias_E: Tensor,
    h_EN: Tensor,
) -> tuple[Tensor, Tensor]:
    dt_LE = torch.log1p(torch.exp(dt_LE + dt_bias_E))
    y_LE, h_EN = selective_scan(x_LE, dt_LE, a_EN, b_LN, c_LN, d_E, h_EN)
    return y_LE * gate_LE / (1 + torch.exp(-gate_LE)), h_EN


def ssd(
    x_LHP: Tensor, dt_LH: Tensor, a_H: Tensor, b_LGN: Tensor, c_LGN: Tensor, d_H: Tensor, h_HPN: Tensor
) -> tuple[Tensor, Tensor]:
    share = x_LHP.shape[1] // b_LGN.shape[1]
    outputs = []
    for x, dt, b, c in zip(x_LHP, dt_LH, b_LGN, c_LGN, strict=True):
        b_HN, c_HN = b.repeat_interleave(share, 0), c.repeat_interleave(share, 0)
        h_HPN = torch.exp(dt * a_H)[:, None, None] * h_HPN + (dt[:, None] * x)[:, :, None] * b_HN[:, None, :]
        outputs.append((h_HPN * c_HN[:, None, :]).sum(2) + d_H[:, None] * x)
    return torch.stack(outputs), h_HPN


def gated_conv(
    u_LD: Tensor, gate_LD: Tensor, poles_FM: Tensor, residues_FM: Tensor, d_D: Tensor, s_DM: Tensor
) -> tuple[Tensor, Tensor]:
    share = u_LD.shape[1] // len(poles_FM)
    poles, residues = poles_FM.repeat_interleave(share, 0), residues_FM.repeat_interleave(share, 0)
    outputs = []
    for u, gate in zip(u_LD, gate_LD, strict=True):
        s_DM = poles * s_DM + u[:, None]
        outputs.append(gate * ((residues * s_DM).real.sum(1) + d_D * u))
    return torch.stack(outputs), s_DM


def attention(
    q_LHK: Tensor,
    k_SGK: Tensor,
    v_SGV: Tensor,
    queries_L: list[int],
    keys_S: list[int],
    scale: float,
    window: int | None,
    sink_tokens: int,
) -> Tensor:
    share = q_LHK.shape[1] // k_SGK.shape[1]
    outputs = []
    for q, at in zip(q_LHK, queries_L, strict=True):
        seen = [i for i, j in enumerate(keys_S) if j <= at and (window is None or at - j < window or j < sink_tokens)]
        heads = []
        for head, q_K in enumerate(q):
            weights = torch.softmax(k_SGK[seen, head // share] @ q_K * scale, 0)
            heads.append(weights @ v_SGV[seen, head // share])
        outputs.append(torch.stack(heads))
    return torch.stack(outputs)


def moe(x_TD: Tensor, router_XD: Tensor, gate_up_XFD: Tensor, down_XDF: Tensor, top_k: int) -> Tensor:
    outputs = []
    for x in x_TD:
        logits = router_XD @ x
        chosen = sorted(range(len(logits)), key=lambda e: -float(logits[e]))[:top_k]
        weights = torch.softmax(logits[chosen], 0)
        y = torch.zeros_like(x)
        for weight, expert in zip(weights, chosen, strict=True):
            gate, up = (gate_up_XFD[expert] @ x).chunk(2)
            y = y + weight * (down_XDF[expert] @ (gate * torch.sigmoid(gate) * up))
        outputs.append(y)
    return torch.stack(outputs)
