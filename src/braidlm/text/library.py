"""Calls of the tokenizers library under guard: whatever it raises becomes one sentence, what could hang it is refused.

The library panics on some input, which Python sees as a `BaseException` beside `Exception`, and a normalizer that makes
a text a billion times longer ends the process. So a backend is looked over once, when it is loaded, and each call is
guarded, since what a file's regular expressions do depends on the text.
"""

import contextlib
import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer, models

from ..errors import BraidError, CheckpointError, quoted

# A text of a megabyte must stay one that fits in memory; published normalizers make it three times as long at most.
_MOST_GROWTH = 64
_MOST_ADDED = 10_000
# Above every published vocabulary (a quarter of a million), below what tables over all ids could not hold.
_MOST_IDS = 1 << 24
_PROBES = ("", "a", "Hello, 12 wörlds \u6570\U0001f600\n\t  e\u0301 \u2581x")


@contextlib.contextmanager
def guarded(sentence: Callable[[str], BraidError]) -> Iterator[None]:
    """Turns what the library raises, panics included, into the error that `sentence` makes of the reason."""
    try:
        yield
    except BraidError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise sentence(_reason(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise sentence(_reason(error)) from None


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return quoted(lines[0])[1:-1]


def checked(backend: Tokenizer, where: str, largest_id: int | None = None) -> Tokenizer:
    """The same backend without padding and truncation; `CheckpointError` if it would panic, hang or fill the memory.

    `where` names the file in the sentence; `largest_id` is None where it is not known, and then found.
    """

    def damaged(reason: str) -> BraidError:
        return CheckpointError(f"{where} is damaged or no tokenizer: {reason}")

    with guarded(damaged):
        backend.no_padding()
        backend.no_truncation()
        found = max(backend.get_vocab().values(), default=0) if largest_id is None else largest_id
        problem = f"has the token id {found}, but ids must be below {_MOST_IDS}" if found >= _MOST_IDS else None
        problem = problem or _problem(backend)
        if problem:
            raise CheckpointError(f"{where} {problem}")
        _try(backend)
    return backend


def _try(backend: Tokenizer) -> None:
    """Encodes and decodes short texts, to panic now. That one cannot be read (no unknown token) depends on the text."""
    for text in _PROBES:
        try:
            ids = backend.encode(text).ids
        except Exception:  # told when a text is encoded
            continue
        backend.decode(ids[:100])


def _problem(backend: Tokenizer) -> str:
    """Part of a backend that could hang or abort, as the end of a sentence; empty if there is none."""
    growth, added = 1.0, 0.0
    for part in _parts(_state(backend.normalizer)):
        factor, more = _growth(part)
        growth, added = growth * factor, (added * factor) + more
    if growth > _MOST_GROWTH or added > _MOST_ADDED:
        return "has a normalizer that makes texts too long: at most 64 characters may come of one"
    if _length(_state(backend.post_processor)) > _MOST_ADDED:
        return f"puts more than {_MOST_ADDED} tokens around a text"
    growth = 1.0
    for part in _parts(_state(backend.decoder)):
        growth *= _growth(part)[0]
        if part.get("type") == "Strip" and max(part.get("start", 0), part.get("stop", 0)) > _MOST_GROWTH:
            return f"strips more than {_MOST_GROWTH} characters from each token"
    return "has a decoder that makes texts too long" if growth > _MOST_GROWTH else ""


def _state(component: Any) -> Any:
    """A component as the library writes it into tokenizer.json."""
    return None if component is None else json.loads(component.__getstate__())


def _parts(state: Any) -> Iterator[Mapping[str, Any]]:
    """A component's parts in their order, however deep they are in sequences."""
    if not isinstance(state, Mapping):
        return
    inner = [value for value in state.values() if isinstance(value, list) and state.get("type") == "Sequence"]
    if not inner:
        yield state
    for part in inner[0] if inner else ():
        yield from _parts(part)


def _growth(part: Mapping[str, Any]) -> tuple[float, int]:
    """Numbers of characters that one part of a normalizer or decoder makes of each, and adds to a text."""
    if part.get("type") == "Replace":
        content, pattern = len(part["content"]), part["pattern"].get("String")
        # A regular expression may match the empty string beside each character.
        return (1 + content, content) if not pattern else (max(1.0, content / len(pattern)), 0)
    return (1, len(part["prepend"])) if part.get("type") == "Prepend" else (1, 0)


def _length(state: Any) -> int:
    """Number of ids that a post-processor puts around a text, as an upper bound."""
    if not isinstance(state, Mapping):
        return 0
    if state.get("type") == "Sequence":
        return sum(_length(part) for part in state.get("processors", ()))
    special = state.get("special_tokens")
    longest = max((len(token["ids"]) for token in special.values()), default=0) if isinstance(special, Mapping) else 1
    return len(state.get("single", ())) * longest


def by_parts(backend: Tokenizer, control: Iterable[int]) -> Tokenizer:
    """A copy that makes words of their parts, never of a whole word at once that is a `control` token's text."""
    found = copy.deepcopy(backend)
    found.encode_special_tokens = True  # which a copy forgets
    if isinstance(found.model, models.BPE):
        found.model.ignore_merges = False
    elif isinstance(found.model, models.Unigram):
        state = _state(found.model)
        never = set(control)
        vocab = [(f"\ufdd3{i}" if i in never else text, score) for i, (text, score) in enumerate(state["vocab"])]
        found.model = models.Unigram(vocab, unk_id=state["unk_id"], byte_fallback=state.get("byte_fallback", False))
    return found
