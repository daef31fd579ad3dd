"""An n-gram of tokens with interpolated modified Kneser-Ney smoothing: what the embedded model has to beat.

Chen and Goodman 1998 (TR-10-98), section 3: p(w | context) = (c - D(c)) / c(context) + gamma(context) p(w | shorter
context), with three discounts D for counts of one, two and more; below the highest order a count is the number of
distinct words that stand before the n-gram.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from braidlm.text.tokenizer import Tokenizer


class Level(NamedTuple):
    """The n-grams of one order: sorted keys (context id, word), discounted mass of each, and of each context
    the count of what follows and the mass that goes to the shorter context.
    """

    keys: np.ndarray
    mass: np.ndarray
    followed: np.ndarray
    back: np.ndarray


def read(file: Path, tokenizer: Tokenizer) -> tuple[list[list[int]], int]:
    """Documents as ids with the end of a text after each, and their bytes."""
    texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    end = tokenizer.eos_ids[0]
    return [[*tokenizer.encode(text), end] for text in texts], sum(len(text.encode()) for text in texts)


def laid_out(documents: list[list[int]], order: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents in a row with `order - 1` starts before each, and which places are not starts."""
    ids = np.concatenate([[start] * (order - 1) + document for document in documents]).astype(np.int64)
    return ids, ids != start


def discounts(counts: np.ndarray) -> np.ndarray:
    """D for counts of 0, 1, 2, and 3 or more (equation 26 of the source)."""
    n1, n2, n3, n4 = (max(1, int((counts == n).sum())) for n in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    found = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return np.clip(found, 0, [0, 1, 2, 3])  # few counts can ask for more than there is


def levels(ids: np.ndarray, real: np.ndarray, order: int, vocab: int) -> list[Level]:
    """Counts of every order."""
    found, places = [], []  # places: of each order, the number of the n-gram that ends at each place
    context = np.zeros(len(ids), np.int64)
    counted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for _ in range(order):
        keys, first, at, counts = np.unique(
            context * vocab + ids, return_index=True, return_inverse=True, return_counts=True
        )
        counted.append((keys, first, counts))
        places.append(at)
        context = np.concatenate([[0], at[:-1]])
    for number, (keys, first, counts) in enumerate(counted):
        if number + 1 < order:
            # Distinct words before: how many n-grams of the next order end in this one.
            longer_first = counted[number + 1][1]
            counts = np.bincount(places[number][longer_first[real[longer_first]]], minlength=len(keys))
        else:
            counts = counts * real[first]
        kept = np.where(real[first], counts, 0)
        cut = discounts(kept)[np.minimum(kept, 3)]
        contexts = keys // vocab
        size = int(contexts.max()) + 1
        followed = np.bincount(contexts, kept, size)
        back = np.bincount(contexts, cut, size) / np.maximum(followed, 1)
        found.append(Level(keys, np.maximum(kept - cut, 0), followed, back))
    return found


def nats(model: list[Level], ids: np.ndarray, real: np.ndarray, vocab: int) -> float:
    """Of all places that are not starts, minus the logarithm of the probability, summed."""
    chance = np.full(len(ids), 1 / vocab)
    # The contexts of each order, found from the training text's: -1 where a context was never seen.
    context = np.zeros(len(ids), np.int64)
    for level in model:
        known = context >= 0
        keys = np.where(known, context * vocab + ids, -1)
        at = np.minimum(np.searchsorted(level.keys, keys), len(level.keys) - 1)
        hit = known & (level.keys[at] == keys)
        within = np.where(known & (context < len(level.followed)), context, 0)
        total = np.where(known & (context < len(level.followed)), level.followed[within], 0)
        own = np.where(hit, level.mass[at], 0) / np.maximum(total, 1)
        chance = np.where(total > 0, own + level.back[within] * chance, chance)
        context = np.concatenate([[-1], np.where(hit, at, -1)[:-1]])
    return float(-np.log(chance[real]).sum())
