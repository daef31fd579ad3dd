"""Summary of a report: the few numbers that decide, each with its meaning in a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...system.units import size
from .speed import ratios
from .subjects import DONOR, GRAFT, TITLES, TRAINED, WINDOWS
from .words import number, percent, ratio, times

_SHORT = {DONOR: "donor", TRAINED: "trained donor", WINDOWS: "untrained windows"}
# At which state and speed are compared, or else at the longest length that both models have.
_DECIDING = 8192

Measured = Mapping[str, Any]


class Figure(NamedTuple):
    """Figure of the summary. value: a plain number, None if it was not measured. text: it in words, with its parts."""

    name: str
    value: float | None
    text: str
    meaning: str


def summary(measured: Measured) -> list[Figure]:
    """Figures of what `measure` found; those that were not measured say so."""
    return [
        _perplexity(measured, DONOR), _perplexity(measured, TRAINED), _perplexity(measured, WINDOWS),
        _divergence(measured), _agreement(measured),
        _recall(measured), _generation(measured), _state(measured), _speed(measured),
    ]  # fmt: skip


def recalled(results: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of all questions that were answered exactly; None if there was none."""
    asked = [result for result in results if "left_out" not in result]
    count = sum(result["questions"] for result in asked)
    return sum(result["exact"] * result["questions"] for result in asked) / count if count else None


def _of(measured: Measured, part: str, subject: str, field: str) -> float | None:
    found: float | None = measured.get(part, {}).get(subject, {}).get(field)
    return found


def _figure(name: str, value: float | None, text: str, meaning: str) -> Figure:
    return Figure(name, value, "not measured" if value is None else text, meaning)


def _perplexity(measured: Measured, other: str) -> Figure:
    graft, base = _of(measured, "text", GRAFT, "perplexity"), _of(measured, "text", other, "perplexity")
    found = ratio(graft, base)
    meaning = {
        DONOR: "How much worse the graft predicts held-out text than the donor: 1 is as well, 1.1 is 10% worse.",
        TRAINED: "The same against the donor after training on the graft's data, without what the data alone bring.",
        WINDOWS: "The same against the donor with windows in those blocks, untrained: below 1, the graft is better.",
    }[other]
    text = f"{times(found)} ({number(graft)} against {number(base)})"
    return _figure(f"perplexity against the {_SHORT[other]}", found, text, meaning)


def _divergence(measured: Measured) -> Figure:
    found = _of(measured, "text", GRAFT, "divergence")
    meaning = "Kullback-Leibler divergence of the graft's next-token probabilities from the donor's: 0 is the same."
    return _figure("divergence from the donor", found, f"{number(found, 3)} nats a token", meaning)


def _agreement(measured: Measured) -> Figure:
    found = _of(measured, "text", GRAFT, "agreement")
    meaning = "Share of places in held-out text where graft and donor find the same next token most likely."
    return _figure("next-token agreement", found, percent(found), meaning)


def _recall(measured: Measured) -> Figure:
    by_name = measured.get("recall", {})
    found = {name: recalled(by_name.get(name, [])) for name in TITLES}
    others = [f"{TITLES[name]} {percent(found[name])}" for name in (DONOR, WINDOWS) if found[name] is not None]
    meaning = "Share of questions about facts in long texts that are answered exactly, over all depths and lengths."
    return _figure("recall", found[GRAFT], f"{percent(found[GRAFT])} ({', '.join(others)})", meaning)


def _generation(measured: Measured) -> Figure:
    graft, donor = (_of(measured, "generation", name, "passed") for name in (GRAFT, DONOR))
    meaning = "Share of written answers that keep the rule in their prompt, or are right: perplexity can flatter."
    return _figure("checked answers", graft, f"{percent(graft)} (donor {percent(donor)})", meaning)


def deciding(measured: Measured) -> int | None:
    """Length at which state and speed decide: 8,192 tokens, or else the longest that donor and graft have."""
    known = [_states(measured, name) for name in (DONOR, GRAFT)]
    both = set(known[0]) & set(known[1])
    return _DECIDING if _DECIDING in both else max(both, default=None)


def _states(measured: Measured, name: str) -> dict[int, int]:
    results = measured.get("state", {}).get(name, [])
    return {result["length"]: result["bytes"] for result in results if "bytes" in result}


def _state(measured: Measured) -> Figure:
    length = deciding(measured)
    meaning = "How many times more memory the donor keeps for a sequence of that length: above 1, the graft is smaller."
    if length is None:
        return _figure("state", None, "", meaning)
    donor, graft = (_states(measured, name)[length] for name in (DONOR, GRAFT))
    found = donor / graft
    text = f"{times(found)} ({size(graft)} against {size(donor)})"
    return _figure(f"state at {length:,} tokens", found, text, meaning)


def _speed(measured: Measured) -> Figure:
    found = {result["length"]: ratios(result["rates"], GRAFT, DONOR) for result in measured.get("speed", [])}
    known = {length: value for length, value in found.items() if value is not None}
    meaning = "How many times faster the graft writes a token when so many are before it: above 1 is faster."
    if not known:
        return _figure("decode speed", None, "", meaning)
    length = _DECIDING if _DECIDING in known else max(known)
    value = known[length]
    text = f"{times(value['median'])} ({number(value['least'])} to {number(value['most'])} in rounds)"
    return _figure(f"decode speed at {length:,} tokens", value["median"], text, meaning)
