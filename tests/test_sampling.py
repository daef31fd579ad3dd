"""Choosing one token against definitions in numpy."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from braidlm.sampling import Sampling, choose
from tests.tolerances import RELATIVE_OP, SAMPLING_DEVIATIONS


def penalised(logits: np.ndarray, penalty: float, seen: list[int]) -> np.ndarray:
    """Keskar et al. 2019: logits of tokens seen are divided by the penalty, negative ones multiplied."""
    out = logits.copy()
    for token in set(seen):
        out[token] = out[token] / penalty if out[token] > 0 else out[token] * penalty
    return out


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def top_k(probabilities: np.ndarray, k: int) -> set[int]:
    """The k most likely tokens."""
    return set(np.argsort(-probabilities)[: k or None].tolist())


def top_p(probabilities: np.ndarray, p: float) -> set[int]:
    """The smallest set whose probability reaches p; the most likely token is always in it."""
    kept: set[int] = set()
    for token in np.argsort(-probabilities):
        kept.add(int(token))
        if sum(probabilities[i] for i in kept) >= p:
            return kept
    return kept


def min_p(probabilities: np.ndarray, p: float) -> set[int]:
    """Tokens with at least p times the probability of the most likely one."""
    return set(np.flatnonzero(probabilities >= p * probabilities.max()).tolist())


def distribution(logits: np.ndarray, sampling: Sampling, seen: list[int]) -> np.ndarray:
    """The probability of each token, by the definitions one after the other."""
    probabilities = softmax(penalised(logits, sampling.repetition_penalty, seen) / sampling.temperature)
    for keep in (
        lambda left: top_k(left, sampling.top_k),
        lambda left: top_p(left, sampling.top_p),
        lambda left: min_p(left, sampling.min_p),
    ):
        kept = keep(probabilities)
        probabilities = np.array([value if i in kept else 0.0 for i, value in enumerate(probabilities)])
        probabilities /= probabilities.sum()
    return probabilities


def logits_of(seed: int, size: int = 16, spread: float = 1.5) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * spread


def draws(logits: torch.Tensor, sampling: Sampling, seen: list[int], count: int) -> Counter[int]:
    generator = torch.Generator().manual_seed(1)
    return Counter(choose(logits, sampling, seen, generator).token for _ in range(count))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.4},
        {"temperature": 3.0},
        {"top_k": 1},
        {"top_k": 5},
        {"top_k": 16},
        {"top_k": 99},
        {"top_p": 0.8},
        {"top_p": 0.3},
        {"top_p": 1e-6},
        {"min_p": 0.1},
        {"min_p": 0.5},
        {"min_p": 1.0},
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.6},
        {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3},
        {"temperature": 0.5, "top_k": 6, "top_p": 0.7},
        {"temperature": 2.0, "top_p": 0.9, "min_p": 0.3},
    ],
    ids=str,
)
def test_sampling_by_definition(options: dict[str, Any]) -> None:
    """Oracle: the distribution by the definitions: tokens outside never come, each within as often as it should."""
    count, seen = 1500, [0, 3, 3, 7]
    sampling = Sampling(**{"temperature": 1.0} | options)
    for seed in (0, 1):
        logits = logits_of(seed)
        expected = distribution(logits.double().numpy(), sampling, seen)
        found = draws(logits, sampling, seen, count)
        # A token that is expected less than ten times in all may well not come.
        assert {i for i in range(16) if expected[i] * count >= 10} <= set(found) <= set(np.flatnonzero(expected))
        for token, p in enumerate(expected):
            deviation = np.sqrt(count * p * (1 - p))
            assert abs(found[token] - count * p) <= SAMPLING_DEVIATIONS * max(deviation, 1)


@pytest.mark.parametrize("size", [1, 2, 500])
def test_greedy_is_the_most_likely_token(size: int) -> None:
    """Oracle: numpy's argmax, also after a penalty; what narrows the choice changes nothing."""
    for seed in range(10):
        logits, seen = logits_of(seed, size), [0, size // 2, size - 1]
        generator = torch.Generator()
        before = generator.get_state()
        for penalty in (1.0, 3.0):
            best = int(penalised(logits.double().numpy(), penalty, seen).argmax())
            for more in ({}, {"top_k": 2, "top_p": 0.5, "min_p": 0.9}):
                sampling = Sampling(repetition_penalty=penalty, **more)
                assert choose(logits, sampling, seen, generator).token == best
        assert torch.equal(generator.get_state(), before)


def test_penalty_moves_both_signs_away() -> None:
    """Oracle: by hand: 4 / 2 falls below 3, and -1 * 2 below -1.5."""
    greedy = Sampling(repetition_penalty=2.0)
    assert choose(torch.tensor([4.0, 3.0, 1.0]), greedy, [0, 0], torch.Generator()).token == 1
    assert choose(torch.tensor([-1.0, -1.5, -9.0]), greedy, [0], torch.Generator()).token == 1
    assert choose(torch.tensor([4.0, 3.0, 1.0]), greedy, [], torch.Generator()).token == 0


def test_top_p_reaches_exactly() -> None:
    """Oracle: by hand: of four equal tokens two reach one half, and three anything above it."""
    equal = torch.zeros(4)
    for p, size in ((0.25, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.76, 4)):
        assert len(draws(equal, Sampling(temperature=1.0, top_p=p), [], 200)) == size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logprob_is_of_the_raw_logits(dtype: torch.dtype) -> None:
    """Oracle: log softmax of the logits in float64, whatever narrowed the choice."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(5):
        logits = logits_of(seed, 200).to(dtype)
        exact = logits.double().numpy()
        expected = exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())
        for options in ({}, {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.5}):
            token, logprob, _ = choose(logits, Sampling(**options), [1, 2], generator)
            assert abs(logprob - expected[token]) <= RELATIVE_OP[torch.float32] * np.abs(expected).max()


def test_logits_are_left_as_they_were() -> None:
    """Oracle: a copy."""
    logits = logits_of(0)
    kept = logits.clone()
    everything = Sampling(temperature=0.5, top_k=3, top_p=0.5, min_p=0.1, repetition_penalty=2.0)
    choose(logits, everything, [0, 1, 2], torch.Generator())
    assert torch.equal(logits, kept)
