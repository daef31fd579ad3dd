"""A real trained Mamba-1, assembled from our operations: the byte tagger of the PyPI package typeseg.

Six bidirectional blocks tag every byte of a text with one of 35 content types. Its trained dt, B
and C and its long real inputs test the scan by a task, not by a norm alone. Texts are packed.

Legend: T = packed bytes, D = width, E = channels, N = states a channel, V = content types.
"""

import json
import sysconfig
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typeseg
from torch import Tensor

from braidlm import ops
from braidlm.ops import Segments
from tests.tolerances import ABSOLUTE_PROBABILITY

LAYERS = 6
DT_RANK = 16
WINDOW = 1536  # bytes the package's other model sees at a time; the scan must not notice it

STDLIB = Path(sysconfig.get_paths()["stdlib"])
MODULES = "argparse ast base64 calendar configparser contextlib csv dataclasses difflib fractions heapq inspect".split()
HEAD = 2000

PAGE = """<html><head><style>.a { color: #123456; margin: 0 auto }</style></head>
<body><h1>Prices</h1><script>const f = (x) => x.map((y) => y * 2);</script>
<!-- SELECT name, price FROM goods WHERE price > 9000 ORDER BY name; -->
<p>Dear reader, this page is a sample of several languages.</p></body></html>
{"a": [1, 2, {"b": null}], "c": "d"}\r\n\tfor i in range(10):\n\t\tprint(i)
"""
ODD = "def größe(naïve: str) -> int:  # 数える € 😀\n    return len('\x00\x7f\x1b' + naïve)\n"


def backwards(rows: Segments) -> Tensor:
    """The index that reverses every row in its place."""
    return torch.cat([row.flip(0) for row in torch.arange(rows.total).split(rows.lengths)])


@cache
def weights() -> dict[str, Tensor]:
    with (files("typeseg") / "data" / "mamba_al.npz").open("rb") as file, np.load(file) as stored:
        return {name.replace("__", "/"): torch.from_numpy(stored[name]) for name in stored.files}


def dense(name: str, x_T: Tensor) -> Tensor:
    return ops.linear(x_T, weights()[f"{name}/kernel"].T, weights()[f"{name}/bias"])


def norm(name: str, x_TD: Tensor) -> Tensor:
    scale_D, bias_D = weights()[f"{name}/scale"], weights()[f"{name}/bias"]
    return F.layer_norm(x_TD, scale_D.shape, scale_D, bias_D, eps=1e-6)


def same_conv(name: str, u_TE: Tensor, rows: Segments) -> Tensor:
    """SAME padding, one left and two right, from a causal convolution: two more zeros, outputs two later."""
    weight_EK = weights()[f"{name}/kernel"][:, 0].T
    channels, taps = weight_EK.shape
    state = torch.zeros(len(rows.lengths), channels, taps - 1)
    longer = Segments(tuple(length + 2 for length in rows.lengths))
    padded_TE = torch.cat([F.pad(u, (0, 0, 0, 2)) for u in u_TE.split(rows.lengths)])
    y_TE = ops.causal_conv1d(padded_TE, weight_EK, weights()[f"{name}/bias"], state, longer, silu=True).y_T
    return torch.cat([y[2:] for y in y_TE.split(longer.lengths)])


def block(name: str, h_TD: Tensor, rows: Segments) -> Tensor:
    a_EN, d_E = -weights()[f"{name}/A_log"].exp(), weights()[f"{name}/D"]
    u_TE, gate_TE = dense(f"{name}/Dense_0", norm(f"{name}/LayerNorm_0", h_TD)).chunk(2, -1)
    u_TE = same_conv(f"{name}/Conv_0", u_TE, rows)
    states = a_EN.shape[1]
    low_TR, b_TN, c_TN = dense(f"{name}/Dense_1", u_TE).split([DT_RANK, states, states], -1)
    dt_TE = F.softplus(dense(f"{name}/Dense_2", low_TR)) + 1e-4

    def scan(*inputs_T: Tensor) -> Tensor:
        x_TE, dt_TE, b_TN, c_TN = inputs_T
        state = torch.zeros(len(rows.lengths), *a_EN.shape)
        return ops.selective_scan(x_TE, dt_TE, a_EN, b_TN, c_TN, d_E, state, rows).y_T

    inputs_T = (u_TE, dt_TE, b_TN, c_TN)
    back = backwards(rows)
    y_TE = scan(*inputs_T) + scan(*(x_T[back] for x_T in inputs_T))[back]
    return h_TD + dense(f"{name}/Dense_3", y_TE * F.silu(gate_TE))


@torch.inference_mode()
def tag(texts: list[bytes]) -> list[Tensor]:
    """Probabilities [T, V] of every byte of each text; all texts in one packed batch."""
    rows = Segments(tuple(len(text) for text in texts))
    kept = [byte if 0x20 <= byte < 0x7F or byte in b"\t\n\r" else 128 for text in texts for byte in text]
    h_TD = weights()["Embed_0/embedding"][torch.tensor(kept)]
    for layer in range(LAYERS):
        h_TD = block(f"CheckpointMambaBlock1D_{layer}", h_TD, rows)
    return list(dense("Dense_0", norm("LayerNorm_0", h_TD)).softmax(-1).split(rows.lengths))


def over_characters(text: str, p_TV: Tensor) -> Tensor:
    """The package shows characters: the mean over a character's bytes, in ASCII the byte itself."""
    return torch.stack([p.mean(0) for p in p_TV.split([len(c.encode()) for c in text])])


def head_of(module: str) -> bytes:
    return (STDLIB / f"{module}.py").read_bytes()[:HEAD]


def texts() -> dict[str, str]:
    source = head_of("heapq").decode("ascii", "replace")
    cut = {f"{length} bytes": source[:length] for length in (1, 2, 3, 64, WINDOW - 1, WINDOW, WINDOW + 1)}
    return {**cut, "page": PAGE, "not ASCII": ODD, "windows": (PAGE + ODD) * 4 + source[:2000]}


@cache
def tagged() -> dict[str, Tensor]:
    return dict(zip(texts(), tag([text.encode() for text in texts().values()])))


@pytest.mark.parametrize("name", texts())
def test_probabilities_are_those_of_the_package(name):
    """Oracle: the package's own inference (ONNX Runtime) with the same weights, text by text."""
    text = texts()[name]
    expected = torch.from_numpy(typeseg.precise(text).char_probs)
    found = over_characters(text, tagged()[name])
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= ABSOLUTE_PROBABILITY
    assert torch.equal(found.argmax(-1), expected.argmax(-1))


def test_python_files_are_tagged_as_python():
    """Oracle: the language that the files are in, per byte; the package itself gets about 0.94 of these right."""
    labels = json.loads((files("typeseg") / "data" / "manifest.json").read_text())["labels"]
    heads = [head_of(module) for module in MODULES]
    assert {len(head) for head in heads} == {HEAD}
    tags_T = torch.cat(tag(heads)).argmax(-1)
    assert (tags_T == labels.index("python")).double().mean() >= 0.85
