"""Tables of GGUF files for a vocabulary of the tokenizers library: the way back of what reads them.

"gpt2" is byte-level BPE: tokens, merges, and the name of the rule that cuts words, which is found by trying it on texts
of every kind of character. "llama" is SentencePiece's BPE: tokens with scores, which follow from the merges' order.
Unigram, WordPiece and whatever else the library can do have no kind here that is read again.

What these tables cannot say and is let go: composing accents (NFC) before words are cut, and spaces that a control
token takes from its sides.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from ..errors import InputError, quoted, warn_loading
from .backend import byte_level
from .chat_templates import ChatTemplates
from .pieces import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED
from .words import BY_NAME

PREFIX = "tokenizer.ggml."
_TEMPLATE = "tokenizer.chat_template"
# Names that llama.cpp knows, one a rule.
_NAMES = "gpt-2 smollm llama-bpe dbrx qwen2 qwen35 tekken gpt-4o deepseek-v3 deepseek-coder deepseek-llm falcon".split()
# One or two of every class that a rule can tell apart.
_CHARACTERS = "asAé\u0301数ʰǅ12² \n\r\t\u00a0'/!_-$😀"
_LONG = (
    "1234567",
    "12345 6789",
    "It's we'LL they've I'd",
    "    x",
    " \n\n \n x",
    "\r\n\r\n",
    "a//b/\n/",
    "<p>&lt;</p>",
)
_OPTIONAL = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad", "seperator": "sep", "mask": "mask"}
_ENDS = ("eos", "eot", "eom")


class Special(NamedTuple):
    """Special tokens beside a vocabulary: texts of named tokens ("bos_token", ...), and all ids that end a text."""

    named: Mapping[str, str]
    ends: Sequence[int]


def gguf_tables(backend: Tokenizer, special: Special, size: int, pre: str | None = None) -> dict[str, Any]:
    """Metadata that describes a tokenizer to readers of GGUF files, for a model with `size` rows of tokens.

    `pre` is the name of the rule that cuts words in the file that the tokenizer came from; it is kept where it means
    the same. Ids that no token has are filled with unused ones. Raises `InputError` if these files cannot express it.
    """
    content = json.loads(backend.to_str())
    _check_size(backend, size)
    tables = _tables(backend, content, size, pre)
    return {f"{PREFIX}{key}": value for key, value in (tables | _marks(backend, special)).items()}


def _check_size(backend: Tokenizer, size: int) -> None:
    largest = max(backend.get_vocab().values(), default=-1)
    if largest >= size:
        raise InputError(
            f"the tokenizer has the id {largest}, but the model has {size} rows of tokens; --no-tokenizer writes the "
            "file without one"
        )


def _tables(backend: Tokenizer, content: Mapping[str, Any], size: int, pre: str | None) -> dict[str, Any]:
    kind, steps = content["model"].get("type"), list(_steps(content.get("pre_tokenizer")))
    if kind == "BPE" and any(step["type"] == "ByteLevel" for step in steps):
        return _byte_level(backend, content, size, pre)
    if kind == "BPE" and _escapes_spaces(content, steps):
        return _sentencepiece(backend, content, steps, size)
    raise _refusal(f"a {kind} model that is neither byte-level BPE nor SentencePiece's BPE")


def _refusal(why: str) -> InputError:
    return InputError(f"GGUF files cannot express this tokenizer ({why}); --no-tokenizer writes the file without one")


def _steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The parts of a component in their order, however deep they are in sequences."""
    if part is None:
        return
    if part["type"] != "Sequence":
        yield part
    for inner in part.get("pretokenizers", part.get("normalizers", ())):
        yield from _steps(inner)


def _tokens(backend: Tokenizer, size: int) -> tuple[list[str], list[int]]:
    """Texts and kinds of all ids."""
    tokens, kinds = [f"[PAD{i}]" for i in range(size)], [UNUSED] * size
    for token, i in backend.get_vocab().items():
        tokens[i], kinds[i] = token, NORMAL
    for i, added in backend.get_added_tokens_decoder().items():
        tokens[i], kinds[i] = added.content, CONTROL if added.special else USER_DEFINED
    return tokens, kinds


def _marks(backend: Tokenizer, special: Special) -> dict[str, Any]:
    """Ids of named tokens, ids that end a text, and whether a text begins and ends with such a token."""
    ids = {name: backend.token_to_id(special.named.get(f"{our}_token", "")) for name, our in _OPTIONAL.items()}
    found: dict[str, Any] = {f"{name}_token_id": i for name, i in ids.items() if i is not None}
    ends = list(dict.fromkeys([*([ids["eos"]] if ids["eos"] is not None else []), *special.ends]))
    found |= {f"{name}_token_id": i for name, i in zip(_ENDS, ends)}
    if len(ends) > len(_ENDS):
        found["eos_token_ids"] = ends
    before, after = _around(backend)
    for name, around in (("bos", before), ("eos", after)):
        if len(around) > 1 or (around and found.setdefault(f"{name}_token_id", around[0]) != around[0]):
            tokens = ", ".join(quoted(backend.id_to_token(i)) for i in around)
            raise _refusal(f"it puts {tokens} {'before' if name == 'bos' else 'behind'} every text")
        found[f"add_{name}_token"] = bool(around)
    return found


def _around(backend: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids that are put before and behind every text."""
    found = backend.encode("a")
    own = [i for i, mark in enumerate(found.special_tokens_mask) if not mark] or [0]
    return found.ids[: own[0]], found.ids[own[-1] + 1 :]


def _byte_level(backend: Tokenizer, content: Mapping[str, Any], size: int, pre: str | None) -> dict[str, Any]:
    if any(step["type"] != "NFC" for step in _steps(content.get("normalizer"))):
        raise _refusal("a normalizer before byte-level BPE")
    tokens, kinds = _tokens(backend, size)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    name = _rule(backend, content, pre)
    tables = {"model": "gpt2", "pre": name, "add_space_prefix": False, "tokens": tokens, "token_type": kinds}
    return tables | ({"merges": merges} if merges else {})


@cache
def _texts() -> tuple[str, ...]:
    """All texts of three characters of different classes, and some longer ones."""
    return (*_LONG, *("".join(text) for text in product(_CHARACTERS, repeat=3)))


def _rule(backend: Tokenizer, content: Mapping[str, Any], pre: str | None) -> str:
    """The name of the rule by which a byte-level backend cuts words, and takes words that are tokens."""
    whole = bool(content["model"].get("ignore_merges"))
    found = [name for name in dict.fromkeys([pre or "", *_NAMES]) if name in BY_NAME and _same_words(backend, name)]
    for name in found:
        if BY_NAME[name].whole == whole:
            return name
    if found and not _needs_whole_words(content):
        return found[0]
    raise _refusal("it cuts words by a rule that has no name there")


def _same_words(backend: Tokenizer, name: str) -> bool:
    present, expected = backend.pre_tokenizer, byte_level({}, [], BY_NAME[name]).pre_tokenizer
    return all(present.pre_tokenize_str(text) == expected.pre_tokenize_str(text) for text in _texts())


def _needs_whole_words(content: Mapping[str, Any]) -> bool:
    """Whether merges alone do not make every token, so that it counts whether words are merged that are tokens."""
    plain: dict[str, Any] = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "added_tokens": []}
    backend = Tokenizer.from_str(
        json.dumps({**content, **plain, "model": {**content["model"], "ignore_merges": False}})
    )
    added = {token["content"] for token in content["added_tokens"]}
    tokens = [token for token in content["model"]["vocab"] if token not in added]
    return any(len(found.ids) != 1 for found in backend.encode_batch(tokens))


def _escapes_spaces(content: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether spaces are written as U+2581, and nothing else is done to a text."""
    normal = list(_steps(content.get("normalizer")))
    replaced = [step for step in normal if step["type"] == "Replace" and step["pattern"].get("String") == " "]
    prepended = [step for step in normal if _prepends(step)]
    spaces = [step for step in steps if step["type"] == "Metaspace" and not step.get("split", True)]
    marks = [step.get("content", step.get("prepend", step.get("replacement"))) for step in (*replaced, *prepended)]
    others = len(normal) - len(replaced) - len(prepended) + len(steps) - len(spaces)
    return others == 0 and bool(replaced or spaces) and set(marks) <= {SPACE}


def _prepends(step: Mapping[str, Any]) -> bool:
    """Whether a step of a normalizer puts U+2581 before a text, in either way of `pieces.escape_spaces`."""
    return step["type"] == "Prepend" or _prepends_beside_pieces(step)


def _prepends_beside_pieces(step: Mapping[str, Any]) -> bool:
    return step["type"] == "Replace" and step["pattern"].get("Regex", "").startswith(r"\A(?!")


def _sentencepiece(
    backend: Tokenizer, content: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], size: int
) -> dict[str, Any]:
    tokens, kinds = _tokens(backend, size)
    unknown = content["model"].get("unk_token")
    for i, token in enumerate(tokens):
        if token == unknown:
            kinds[i] = UNKNOWN
        elif content["model"].get("byte_fallback") and kinds[i] == NORMAL and _is_byte(token):
            kinds[i] = BYTE
    scores = _scores(content["model"]["merges"], tokens, kinds)
    first = any(step.get("prepend_scheme") == "first" for step in steps)
    if first or any(_prepends_beside_pieces(step) for step in _steps(content.get("normalizer"))):
        warn_loading(
            "readers of GGUF files put a space where this tokenizer puts none, after control tokens or pieces "
            "of the user's: in chats their ids may differ"
        )
    return {
        "model": "llama",
        "pre": "default",
        "tokens": tokens,
        "scores": scores,
        "token_type": kinds,
        "add_space_prefix": _puts_space_before(content, steps),
    }


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _puts_space_before(content: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a space is put before a text: readers of these files put one after control tokens, too."""
    schemes = {step.get("prepend_scheme") for step in steps}
    return any(map(_prepends, _steps(content.get("normalizer")))) or bool(schemes & {"always", "first"})


def _scores(merges: Sequence[Any], tokens: Sequence[str], kinds: Sequence[int]) -> list[float]:
    """Scores that give the merges' order: of a piece less the number of the first merge that makes it.

    SentencePiece knows pieces, not merges: all ways to make a piece must be merges, and stand together.
    """
    pairs = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in merges]
    made: dict[str, int] = {}
    last = ""
    for number, pair in enumerate(pairs):
        piece = "".join(pair)
        if piece in made and piece != last:
            raise _refusal(f"its merges are not in the order of pieces: {quoted(piece)} is made at two places")
        made.setdefault(piece, number)
        last = piece
    normal = [token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL]
    _check_all_ways(normal, set(pairs))
    return [-float(made.get(token, len(pairs))) if kind == NORMAL else 0.0 for token, kind in zip(tokens, kinds)]


def _check_all_ways(normal: Sequence[str], pairs: set[tuple[str, ...]]) -> None:
    known = set(normal)
    for piece in normal:
        for cut in range(1, len(piece)):
            first, second = piece[:cut], piece[cut:]
            if first in known and second in known and (first, second) not in pairs:
                raise _refusal(f"its merges do not make {quoted(piece)} of {quoted(first)} and {quoted(second)}")


def gguf_templates(templates: ChatTemplates) -> dict[str, Any]:
    """Metadata that holds chat templates: the default one, and the others by name."""
    if templates.default is None:
        return {}
    others = {f"{_TEMPLATE}.{name}": text for name, text in templates.others.items()}
    names = {f"{_TEMPLATE}s": list(templates.others)} if others else {}
    return {_TEMPLATE: templates.default, **names, **others}
