"""Items of every task: read by solvers that know nothing of how they were made."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest

from braidlm.api.loading import read_tokenizer
from braidlm.checkpoints import embedded
from braidlm.errors import InputError
from braidlm.eval import words
from braidlm.eval.item import Item
from braidlm.eval.item_maker import Asked, ItemMaker
from braidlm.eval.tasks import DEPTHS, TASKS, items
from braidlm.eval.tasks.phonebook import people
from braidlm.text.tokenizer import Tokenizer
from tests.checkpoints.gguf_files import refused
from tests.eval.models import word_tokenizer
from tests.text.sentencepieces import trained

Solver = Callable[[str, str], tuple[str, int | None]]


def only(pattern: str, text: str) -> tuple[str, int]:
    """The only match of a pattern with one group, and where it begins."""
    (found,) = re.finditer(pattern, text, re.MULTILINE)
    return found[1], found.start()


def solve_inferred(text: str, asked: str) -> tuple[str, int]:
    place = re.search(r"has been in (.*) is called", asked)[1]
    landmark = {place: landmark for landmark, place in words.LANDMARKS}[place]
    assert not set(asked.lower().split()) & set(f"lives next to {landmark}".lower().split()) - {"the"}
    return only(rf"(\w+) lives next to {landmark}\.", text)


def solve_values(text: str, asked: str) -> tuple[str, None]:
    name = re.search(r"numbers of (\w+) are", asked)[1]
    *some, last = re.findall(rf"A secret number of {name} is (\d+)\.", text)
    return f"{', '.join(some)} and {last}", None


def solve_variables(text: str, asked: str) -> tuple[str, int]:
    assigned = {found[1]: (found[2], found.start()) for found in re.finditer(r"VAR (\w+) = (?:VAR )?(\w+)\.", text)}
    value, place, known = re.search(r"VAR (\w+) =", asked)[1], len(text), 0
    while value in assigned:
        assert assigned[value][1] < place  # a variable is used after it was assigned
        (value, place), known = assigned[value], known + 1
    assert known == 3
    return value, place


def solve_common(text: str, asked: str) -> tuple[str, None]:
    (first, most), (_, second) = Counter(text.split(":")[1].split()).most_common(2)
    assert most > 2 * second
    return first, None


def solve_frequent(text: str, asked: str) -> tuple[str, None]:
    found = Counter(text.split(":")[1].split()).most_common(4)
    assert all(more > 1.2 * less for (_, more), (_, less) in pairwise(found))
    return ", ".join(word for word, _ in found[:3]), None


SOLVERS: dict[str, Solver] = {
    "needle": lambda text, asked: only(rf"{asked.strip()} (\d+)\.", text),
    "inferred_needle": solve_inferred,
    "multi_key": lambda text, asked: only(rf"{asked.strip()} (\d+)\.", text),
    "multi_value": solve_values,
    "variable_tracking": solve_variables,
    "phonebook": lambda text, asked: only(rf"^{asked.strip()} (\d+)$", text),
    "question_answering": lambda text, asked: only(rf"{asked.split('Answer: ')[1].strip()} (\w+)", text),
    "common_words": solve_common,
    "frequent_words": solve_frequent,
}


# Number of questions of tasks that do not ask one for each depth.
QUESTIONS = {"multi_value": 2, "common_words": 1, "frequent_words": 1}


@pytest.mark.parametrize("task", SOLVERS)
@pytest.mark.parametrize("name", [embedded.NAME, "smollm2-135m"])
def test_texts(task: str, name: str) -> None:
    """Oracle: a solver that reads text and question; the whole text tokenized at once; lengths and depths asked for."""
    tokenizer = read_tokenizer(name)
    assert tokenizer is not None
    maker = ItemMaker(tokenizer, tokenizer.vocab_size)
    for length in (450, 900):
        made = list(items(task, maker, length, 3, seed=5))
        assert made == list(items(task, maker, length, 3, seed=5))
        assert made != list(items(task, maker, length, 3, seed=6))
        for item in made:
            assert length - 90 < item.tokens <= length
            text = tokenizer.decode(item.haystack)
            asked_at = DEPTHS[: QUESTIONS.get(task, len(DEPTHS))]
            for one, depth in zip(item.questions, asked_at, strict=True):
                asked, answer = tokenizer.decode(one.prompt), tokenizer.decode(one.answer)
                assert tuple(tokenizer.encode(text + asked + answer)) == item.haystack + one.prompt + one.answer
                solved, place = SOLVERS[task](text, asked)
                assert answer.strip() == solved
                assert one.depth == (None if place is None else depth)
                assert place is None or depth == pytest.approx(place / len(text), abs=0.2)


class Watched(ItemMaker):
    """A maker that compares each item with its whole texts."""

    def item(self, haystack: Sequence[str], asked: Sequence[Asked]) -> Item:
        made, text = super().item(haystack, asked), "".join(haystack).strip() + "\n"
        for wanted, one in zip(asked, made.questions, strict=True):
            whole = self.tokenizer.encode(text + wanted.prompt + wanted.answer)
            assert tuple(whole) == made.haystack + one.prompt + one.answer
        return made


@pytest.mark.parametrize("name", ["bpe", "bpe digits", "unigram", "user's"])
def test_tokenizers_of_other_kinds(name: str, tmp_path: Path) -> None:
    """Oracle: SentencePiece vocabularies' tokens of whole texts; the length that was asked for."""
    (tmp_path / "tokenizer.model").write_bytes(trained(name))
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer is not None
    for task in ("needle", "phonebook", "question_answering", "frequent_words"):
        for item in items(task, Watched(tokenizer, tokenizer.vocab_size), 1500, 2):
            assert 1200 < item.tokens <= 1500


@pytest.mark.parametrize("tokenizer", [None, embedded.NAME])
@pytest.mark.parametrize("length", [64, 777])
def test_random_tokens(tokenizer: str | None, length: int) -> None:
    """Oracle: what followed a key's only occurrence, at its depth; all tokens but the noise; no control tokens."""
    found = tokenizer and read_tokenizer(tokenizer)
    maker = ItemMaker(found or None, 300)
    control = found.special_ids if found else frozenset()
    for task in ("mqar", "induction"):
        for item in items(task, maker, length, 3):
            assert item.tokens == length
            for one in item.questions:
                assert item.haystack.count(one.prompt[0]) == 1
                place = item.haystack.index(one.prompt[0])
                assert item.haystack[place + 1 : place + 2] == one.answer
                assert one.depth == pytest.approx(place / (length - 2), abs=0.2)
            assert item.haystack[: len(maker.start)] == maker.start
            assert control.isdisjoint(item.haystack[len(maker.start) :]) and max(item.haystack) < 300
    for item in items("selective_copying", maker, length, 3):
        (noise, _), *_ = Counter(item.haystack).most_common(1)
        (one,) = item.questions
        assert one.answer == tuple(token for token in item.haystack[len(maker.start) :] if token != noise)
        assert len(one.answer) == 16 and one.prompt[0] not in item.haystack
        assert item.tokens == length


@pytest.mark.parametrize("depths", [(0.5, 0.51), (0.5, 0.5, 0.5), (0.98, 0.99, 1.0), (0.0, 0.01, 0.02)])
def test_close_depths(depths: tuple[float, ...]) -> None:
    """Oracle: each question's token stands once in the haystack, before its answer, which is no other's token."""
    for item in items("induction", ItemMaker(None, 300), 64, 3, depths=depths):
        prompts = [one.prompt[0] for one in item.questions]
        for one in item.questions:
            assert item.haystack.count(one.prompt[0]) == 1
            place = item.haystack.index(one.prompt[0])
            assert item.haystack[place + 1 : place + 2] == one.answer
            assert one.answer[0] not in prompts
            assert one.depth == pytest.approx(place / 62, abs=0.1)


def test_tokens_around_texts() -> None:
    """Oracle: a template of BOS and EOS: a haystack begins with BOS, and no EOS stands before a question."""
    tokenizer = word_tokenizer(around=True)
    maker = ItemMaker(tokenizer, tokenizer.vocab_size)
    begin, end = tokenizer.id_of("<s>"), tokenizer.id_of("</s>")
    assert tokenizer.encode("a")[0] == begin and tokenizer.encode("a")[-1] == end
    assert maker.start == (begin,)
    for task in ("mqar", "induction", "selective_copying", "needle", "phonebook"):
        for item in items(task, maker, 300, 2):
            assert item.haystack[0] == begin and item.haystack.count(begin) == 1
            assert item.tokens <= 300
            assert all(end not in (*item.haystack, *one.prompt, *one.answer) for one in item.questions)
    assert ItemMaker(word_tokenizer(), 400).start == ItemMaker(None, 400).start == ()


def test_symbols_of_a_small_vocabulary() -> None:
    """Oracle: by hand: control tokens beyond the model's ids take nothing away, and no id beyond them is drawn."""
    tokenizer = word_tokenizer(around=True)
    first = min(tokenizer.special_ids)
    for vocab in (first, first + 1):
        maker = ItemMaker(tokenizer, vocab)
        assert maker.alphabet == first
        for seed in range(20):
            assert sorted(maker.symbols(Random(seed), first)) == list(range(first))


def test_every_task_is_solved() -> None:
    """Oracle: the table of tasks."""
    assert set(TASKS) == {*SOLVERS, "mqar", "induction", "selective_copying"}
    assert all(task.summary and task.summary[0].islower() for task in TASKS.values())


def test_names_are_many() -> None:
    """Oracle: no name twice among twenty thousand, which a haystack of 200,000 tokens needs."""
    found = list(islice(people(Random(0)), 20_000))
    assert len(set(found)) == len(found) == 20_000
    assert all(re.fullmatch(r"[A-Z][a-z]+ ([A-Z]\. )?[A-Z][a-z]+", name) for name in found)


def test_pairs_leave_room_for_noise() -> None:
    """Oracle: a vocabulary of ten, of which five are keys; single values fill the rest."""
    (item,) = items("mqar", ItemMaker(None, 10), 40, 1, depths=(0, 1))
    assert len(item.haystack) == 38
    keys = [token for token in item.haystack if item.haystack.count(token) == 1]
    assert len(keys) >= 5


def test_refusals() -> None:
    """Oracle: the sentences."""
    tokenizer = word_tokenizer()
    maker, bare = ItemMaker(tokenizer, tokenizer.vocab_size), ItemMaker(None, 9)
    assert len(list(items("needle", maker, 400, 2))) == 2

    def make(task: str, maker: ItemMaker = maker, length: int = 400, **options) -> Callable[[], list]:
        return lambda: list(items(task, maker, length, 1, **options))

    refused(make("nedle"), InputError, "'nedle'", "needle, inferred_needle", "mean 'needle'?")
    refused(make("needle", length=40), InputError, "no room for 5 facts", "greater length or fewer depths")
    refused(make("phonebook", length=20), InputError, "no room for two lines")
    refused(make("common_words", length=20), InputError, "no room for the words")
    refused(make("mqar", length=8), InputError, "no room for a pair for each depth")
    refused(make("inferred_needle", depths=[0.05 * n for n in range(20)]), InputError, "20 depths", "at most 14")
    refused(make("needle", depths=(1.5,)), InputError, "depth is 1.5")
    refused(make("needle", depths=()), InputError, "no depths")
    refused(make("needle", bare), InputError, "no tokenizer")
    refused(make("selective_copying", ItemMaker(None, 3), 2), InputError, "no room for 1 tokens")
    unknown = ItemMaker(word_tokenizer(digits=False), 9)
    refused(make("needle", unknown), InputError, "reads the answer", "cannot be found")
    refused(lambda: maker.item([" Ada."], [Asked("Ada", "line", 0.0)]), InputError, "joins the answer")
    refused(lambda: bare.symbols(Random(0), 10), InputError, "10 different tokens")
