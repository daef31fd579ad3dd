"""Maker of recall items of an exact length for one tokenizer: facts among filler, lists of lines, random tokens.

Texts are tokenized haystack and question apart, so that a haystack is read once for all of its questions. That is
only right where a question's tokens do not depend on more of the text than its end; the maker makes sure of it.
"""

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from ..errors import InputError
from ..text.tokenizer import Tokenizer
from . import filler
from .item import Item, Question

# Sentences of filler that are made once and counted once.
_POOL = 600
# Characters of a haystack's end that a question is tokenized with.
_TAIL = 64
# Tokens by which a text and the sum of its sentences may differ: a start token, a space at the beginning.
_SLACK = 4


class Asked(NamedTuple):
    """Question in words; the answer begins with its space. Depth as in `Question`."""

    prompt: str
    answer: str
    depth: float | None


class ItemMaker:
    """Maker of items for a tokenizer, or without one for the ids 0 to `vocab` - 1 alone."""

    def __init__(self, tokenizer: Tokenizer | None, vocab: int) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._counts: dict[str, int] = {}
        self._pool: list[tuple[str, int]] = []

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; `InputError` if there is none."""
        if self._tokenizer is None:
            raise InputError("this task is made of words, but the model has no tokenizer")
        return self._tokenizer

    def symbols(self, rng: Random, count: int) -> list[int]:
        """Different random token ids, none of them a control token."""
        last = self._vocab if self._tokenizer is None else min(self._vocab, self._tokenizer.largest_id + 1)
        control = self._tokenizer.special_ids if self._tokenizer else frozenset()
        if count > last - len(control):
            raise InputError(f"the task needs {count} different tokens, but the vocabulary has {last - len(control)}")
        drawn = rng.sample(range(last), min(last, count + len(control)))
        return [token for token in drawn if token not in control][:count]

    def count(self, text: str) -> int:
        """Number of tokens of a part of a text."""
        if text not in self._counts:
            self._counts[text] = len(self.tokenizer.encode(text, add_bos=False))
        return self._counts[text]

    def room(self, length: int, asked: Iterable[Asked]) -> int:
        """Number of tokens that a haystack may have for the longest question and its answer to fit `length` too."""
        return length - max(self.count(one.prompt) + self.count(one.answer) for one in asked) - _SLACK

    def fitting(self, lines: Iterable[str], room: int) -> list[str]:
        """As many of the first lines as have `room` tokens together."""
        found = []
        for line in lines:
            room -= len(self.tokenizer.encode(line, add_bos=False))
            if room < 0:
                break
            found.append(line)
        return found

    def among_filler(self, rng: Random, facts: Sequence[tuple[float, str]], room: int) -> list[str]:
        """Facts at their depths (increasing, from 0 to 1) among filler, at most `room` tokens in all."""
        left = room - sum(self.count(fact) for _, fact in facts)
        if left < 0:
            raise InputError(
                f"{len(facts)} facts need {room - left} tokens, but the haystack has room for {max(room, 0)}; "
                "take a greater length or fewer depths"
            )
        sentences, counts = self._filler(rng, left)
        found, seen, total, waiting = [], 0, sum(counts), list(facts)
        for sentence, count in zip(sentences, counts, strict=True):
            while waiting and waiting[0][0] * total <= seen:
                found.append(waiting.pop(0)[1])
            found.append(sentence)
            seen += count
        return found + [fact for _, fact in waiting]

    def _filler(self, rng: Random, room: int) -> tuple[list[str], list[int]]:
        if not self._pool:
            pool = Random(0)
            self._pool = [(text, self.count(text)) for text in (filler.sentence(pool) for _ in range(_POOL))]
        found = []
        while (drawn := rng.choice(self._pool))[1] <= room:
            found.append(drawn)
            room -= drawn[1]
        return [text for text, _ in found], [count for _, count in found]

    def item(self, haystack: Sequence[str], asked: Sequence[Asked]) -> Item:
        """The item of a haystack's sentences or lines, after which a line ends, and of questions about it."""
        text = "".join(haystack).strip() + "\n"
        ids = tuple(self.tokenizer.encode(text))
        return Item(ids, tuple(self._question(text[-_TAIL:], one) for one in asked))

    def _question(self, tail: str, asked: Asked) -> Question:
        before, prompt, whole = (
            self.tokenizer.encode(text, add_bos=False)
            for text in (tail, tail + asked.prompt, tail + asked.prompt + asked.answer)
        )
        answer = whole[len(prompt) :]
        if whole[: len(prompt)] != prompt or prompt[: len(before)] != before:
            raise InputError(
                f"the tokenizer joins the answer {asked.answer!r} with the words before it, so that it has no tokens "
                "of its own"
            )
        read = self.tokenizer.decode(answer)
        if asked.answer.strip() not in read:
            raise InputError(
                f"the tokenizer reads the answer {asked.answer.strip()!r} as {read.strip()!r}, so that it cannot be "
                "found in a text"
            )
        # A space that is a token of its own is no part of what is recalled.
        space = next(index for index in range(len(answer)) if self.tokenizer.decode(answer[: index + 1]).strip())
        return Question((*prompt[len(before) :], *answer[:space]), tuple(answer[space:]), asked.depth)
