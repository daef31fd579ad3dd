"""Orders of filters, chosen and given."""

import pytest
import torch

from braidlm.errors import InputError
from braidlm.graft.filters import report
from braidlm.graft.filters.distill import Settings, distill, most_modes
from tests.train.modal.systems import defined, system

AUTO = Settings(order=None, tolerance=1e-3, steps=50, real=False)


def nothing(done: int, total: int) -> None:
    """Shows no progress."""


def test_auto_finds_the_order_of_known_systems() -> None:
    """Oracle: the modes that the filters were made of, none of which is weak; each layer has its own order."""
    layers = {}
    for order in (1, 3):
        poles, _ = system(4, order, seed=order)
        layers[f"of {order}"] = defined(poles, torch.ones_like(poles), 200)
    found = distill(layers, AUTO, nothing)
    assert {name: layer.modes.poles_FM.shape[1] for name, layer in found.items()} == {"of 1": 1, "of 3": 3}
    assert max(float(layer.modes.relative_F.max()) for layer in found.values()) <= 1e-3


def test_auto_keeps_the_tolerance_and_is_not_wasteful() -> None:
    """Oracle: every filter's error by the definition; with one mode less it is above the tolerance."""
    filters = 1 / (1 + torch.arange(256, dtype=torch.float64))[None] ** torch.tensor([[0.5], [1.0]])
    modes = distill({"slow": filters}, AUTO, nothing)["slow"].modes
    made = defined(modes.poles_FM, modes.residues_FM, 256)
    made[:, 0] += modes.direct_F
    assert ((made - filters).norm(dim=1) / filters.norm(dim=1)).max() <= 1e-3
    fewer = AUTO._replace(order=modes.poles_FM.shape[1] - 1)
    assert distill({"slow": filters}, fewer, nothing)["slow"].modes.relative_F.max() > 1e-3


def test_reports_hold_what_was_found() -> None:
    """Oracle: the layer's own numbers; singular values beyond the order of a known system are rounding."""
    poles, residues = system(5, 2, seed=7)
    settings = AUTO._replace(order=4)
    found = distill({"known": defined(poles, residues, 100)}, settings, nothing)
    facts = report.facts("here", "explicit filters", found, settings)
    layer, modes = facts["layers"]["known"], found["known"].modes
    assert (layer["filters"], layer["length"], layer["order"]) == (5, 100, 4)
    assert layer["error_of_each_filter"] == modes.relative_F.tolist()
    assert layer["errors"]["worst"] == float(modes.relative_F.max()) < 1e-5
    assert layer["singular_values"]["best"][0] == 1 and layer["singular_values"]["worst"][4] < 1e-9
    heads, rows = report.hankel_rows(facts)
    assert heads == ["layer", "1", "2", "4"] and float(rows[0][1]) > 1e-3 > 1e-9 > float(rows[0][2])
    assert report.error_rows(facts)[1][0][:4] == ["known", "5", "100", "4"]


@pytest.mark.parametrize(
    ("filters", "settings", "message"),
    [
        (torch.zeros(0, 20), AUTO, "x is empty"),
        (torch.tensor([[1.0] * 20, [float("nan")] * 20]), AUTO, "not finite in 1 of 2 filters.*number 1"),
        (torch.ones(2, 100), AUTO._replace(order=25), "order is 25.*100 positions, which determine at most 24 modes"),
        (torch.ones(2, 3), AUTO, "order is 1.*at most 0 modes"),
        (torch.randn(1, 60, generator=torch.Generator().manual_seed(0)), AUTO, "14 modes leave .* the tolerance 0.001"),
    ],
)
def test_what_has_no_such_modes_is_refused(filters: torch.Tensor, settings: Settings, message: str) -> None:
    """Oracle: the message."""
    with pytest.raises(InputError, match=message):
        distill({"x": filters}, settings, nothing)


def test_most_modes_are_determined_by_the_taps() -> None:
    """Oracle: a filter of as many known modes as its length determines, which are found."""
    length = 26
    most = most_modes(length, real=False)
    poles, residues = system(1, most, seed=5)
    found = distill({"x": defined(poles, residues, length)}, AUTO._replace(order=most), nothing)
    assert most == 6 and float(found["x"].modes.relative_F) < 1e-4
    assert most_modes(length, real=True) == 12
