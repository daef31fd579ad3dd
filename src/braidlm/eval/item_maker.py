"""Maker of recall items of an exact length for one tokenizer: facts among filler, lists of lines, random tokens.

Texts are tokenized haystack and question apart, so that a haystack is read once for all of its questions. That is
only right where a question's tokens do not depend on more of the text than its end; the maker makes sure of it.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from random import Random
from typing import NamedTuple, TypeVar

from ..errors import InputError
from ..text.tokenizer import Tokenizer
from . import filler
from .item import Item, Question

Thing = TypeVar("Thing")

# Sentences of filler that are made once and counted once.
_POOL = 600
# Lines that are counted together.
_BLOCK = 16
# Characters of a haystack's end that a question is tokenized with.
_TAIL = 64
# Tokens by which a text and the sum of its sentences may differ: a space at the beginning.
_SLACK = 4
# A text that shows what a tokenizer puts around texts.
_WORD = "a"


class Asked(NamedTuple):
    """Question in words; the answer begins with its space. Depth as in `Question`."""

    prompt: str
    answer: str
    depth: float | None


def require_room(there: int, needed: int, what: str) -> None:
    """`InputError` unless there is as much as needed for `what`."""
    if there < needed:
        raise InputError(f"there is no room for {what}; take a greater length or fewer depths")


def choose(rng: Random, things: Sequence[Thing], count: int) -> list[Thing]:
    """Different random things of a list, one a depth; `InputError` if it is shorter."""
    if count > len(things):
        raise InputError(f"there are {count} depths, but the task has facts for at most {len(things)}")
    return rng.sample(things, count)


class ItemMaker:
    """Maker of items for a tokenizer, or without one for the ids 0 to `vocab` - 1 alone."""

    def __init__(self, tokenizer: Tokenizer | None, vocab: int) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._counts: dict[str, int] = {}  # of what may come again
        self._ends: dict[str, int] = {}  # of what a counted text stands behind
        self._pool: list[tuple[str, int]] = []

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; `InputError` if there is none."""
        if self._tokenizer is None:
            raise InputError("this task is made of words, but the model has no tokenizer")
        return self._tokenizer

    @cached_property
    def alphabet(self) -> int:
        """Number of token ids that are no control tokens."""
        return self._end - len(self._control)

    @cached_property
    def start(self) -> tuple[int, ...]:
        """Tokens that every haystack begins with: those that the tokenizer puts before a text."""
        if self._tokenizer is None:
            return ()
        whole, plain = self._tokenizer.encode(_WORD), self._plain(_WORD)
        begins = (place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
        return tuple(whole[: next(begins, 0)])

    @cached_property
    def _end(self) -> int:
        """End of the token ids that model and tokenizer both have."""
        return self._vocab if self._tokenizer is None else min(self._vocab, self._tokenizer.largest_id + 1)

    @cached_property
    def _control(self) -> frozenset[int]:
        """Control tokens among these ids."""
        special = self._tokenizer.special_ids if self._tokenizer else frozenset()
        return frozenset(token for token in special if token < self._end)

    def symbols(self, rng: Random, count: int) -> list[int]:
        """Different random token ids, none of them a control token."""
        require_room(self.alphabet, count, f"{count} different tokens in the vocabulary")
        drawn = rng.sample(range(self._end), min(self._end, count + len(self._control)))
        return [token for token in drawn if token not in self._control][:count]

    def count(self, text: str) -> int:
        """Number of tokens that a part adds to a text, of one that may come again."""
        if text not in self._counts:
            self._counts[text] = self._added(text)
        return self._counts[text]

    def _added(self, text: str) -> int:
        """Number of tokens after the end of a sentence or, if no space begins the text, of a line."""
        before = "." if text.startswith(" ") else "\n"
        if before not in self._ends:
            self._ends[before] = len(self._plain(before))
        return len(self._plain(before + text)) - self._ends[before]

    def _plain(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_bos=False)

    def room(self, length: int, asked: Iterable[Asked]) -> int:
        """Number of tokens that a haystack may have for the longest question and its answer to fit `length` too."""
        return length - max(self.count(one.prompt) + self.count(one.answer) for one in asked) - _SLACK - len(self.start)

    def fitting(self, lines: Iterable[str], room: int) -> list[str]:
        """As many of the first lines as have `room` tokens together; `InputError` unless two have."""
        found: list[str] = []
        left, rest = room, iter(lines)
        block = list(islice(rest, _BLOCK))
        while block and (needed := self._added("".join(block))) <= left:
            found += block
            left -= needed
            block = list(islice(rest, _BLOCK))
        for line in block:
            left -= self._added(line)
            if left < 0:
                break
            found.append(line)
        require_room(len(found), 2, "two lines")
        return found

    def shuffled_blocks(self, rng: Random, block: Callable[[], list[str]], room: int) -> list[str]:
        """Words of as many whole blocks as have `room` tokens, each with the space before it, in random order."""
        words: list[str] = []
        more = block()
        while (room := room - sum(self.count(f" {word}") for word in more)) >= 0:
            words += more
            more = block()
        require_room(len(words), 1, "the words")
        rng.shuffle(words)
        return [f" {word}" for word in words]

    def among_filler(self, rng: Random, facts: Sequence[tuple[float, str]], room: int) -> list[str]:
        """Facts at their depths, from 0 to 1, among filler, at most `room` tokens in all."""
        left = room - sum(self.count(fact) for _, fact in facts)
        require_room(left, 0, f"{len(facts)} facts")
        sentences, counts = self._filler(rng, left)
        found, seen, total, waiting = [], 0, sum(counts), sorted(facts, key=lambda fact: fact[0])
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
        ids = (*self.start, *self._plain(text))
        return Item(ids, tuple(self._question(text[-_TAIL:], one) for one in asked))

    def _question(self, tail: str, asked: Asked) -> Question:
        before, prompt, whole = (
            self._plain(text) for text in (tail, tail + asked.prompt, tail + asked.prompt + asked.answer)
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
