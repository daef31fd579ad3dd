"""Implicit filters as published with Hyena."""

import math

import pytest
import torch

from braidlm.errors import CheckpointError, InputError
from braidlm.graft.filters.published import evaluate, layers_in
from tests.graft.filters.hyena_tensors import FILTERS, LENGTH, tensors
from tests.tolerances import RELATIVE_OP


def test_filters_are_those_of_the_published_formula() -> None:
    """Oracle: the formula at each position and filter, in Python's own numbers."""
    parts = tensors()
    number = {name: tensor.tolist() for name, tensor in parts.items()}
    found = evaluate("filter_fn", parts, 0.05, None)
    assert found.shape == (FILTERS, LENGTH)
    for position in range(LENGTH):
        x = number["pos_emb.z"][0][position]
        for layer in (0, 2):
            weight, bias = number[f"implicit_filter.{layer}.weight"], number[f"implicit_filter.{layer}.bias"]
            freq = number[f"implicit_filter.{layer + 1}.freq"][0]
            sums = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
            x = [math.sin(f * (s + b)) for f, s, b in zip(freq, sums, bias, strict=True)]
        for filter in range(FILTERS):
            last = sum(w * v for w, v in zip(number["implicit_filter.4.weight"][filter], x, strict=True))
            delta = abs(number["modulation.deltas"][0][0][filter])
            wanted = last * (math.exp(-delta * position / (LENGTH - 1)) + 0.05)
            assert found[filter, position].item() == pytest.approx(wanted, rel=RELATIVE_OP[torch.float64])
    assert torch.equal(evaluate("filter_fn", parts, 0.05, 5), found[:, :5])
    del parts["implicit_filter.3.freq"]  # the same tensor as the first, which safetensors store once
    assert torch.equal(evaluate("filter_fn", parts, 0.05, None), found)


def test_layers_are_found_by_their_names() -> None:
    """Oracle: the names in a published model, among which other tensors lie; a file of one layer has no prefix."""
    named = {f"layers.{n}.mixer.filter_fn.{name}": part for n in (0, 1) for name, part in tensors(n).items()}
    named["layers.0.mixer.in_proj.weight"] = torch.zeros(2, 2)
    found = layers_in(named)
    assert list(found) == ["layers.0.mixer.filter_fn", "layers.1.mixer.filter_fn"]
    assert torch.equal(found["layers.1.mixer.filter_fn"]["pos_emb.z"], tensors(1)["pos_emb.z"])
    assert list(layers_in(tensors())) == ["filters"]
    assert layers_in({"filters": torch.zeros(2, 9)}) == {}


def test_what_is_missing_or_does_not_fit_is_named() -> None:
    """Oracle: the message."""
    parts = tensors()
    with pytest.raises(InputError, match="length is 13, but filter_fn has 12 positions"):
        evaluate("filter_fn", parts, 0.0, 13)
    without = {name: part for name, part in parts.items() if name != "modulation.deltas"}
    with pytest.raises(CheckpointError, match=r"filter_fn has no modulation\.deltas"):
        evaluate("filter_fn", without, 0.0, None)
    with pytest.raises(CheckpointError, match="shapes do not fit each other"):
        evaluate("filter_fn", parts | {"implicit_filter.2.weight": torch.zeros(4, 4).double()}, 0.0, None)
    with pytest.raises(CheckpointError, match="must have 3 dimensions"):
        evaluate("filter_fn", parts | {"modulation.deltas": torch.zeros(FILTERS)}, 0.0, None)
