"""Chats answered by the donor, from which a hybrid learns how its donor speaks (Goldstein et al. 2025, "RADLADS").

Every answer follows from the recipe's seed and the number of its prompt, and is on disk before the next batch is
begun, so that the work of a run that was killed is kept.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from ..api.language_model import LanguageModel
from ..engine import Request
from ..errors import InputError
from ..generation.sampling import Sampling
from ..system.settings import Setting, check_settings
from ..train.data.build import build
from ..train.data.manifest import FILE as MANIFEST
from ..train.data.recipe import Recipe as DataRecipe
from .watch import Watch

FILE, SHARDS = "chats.jsonl", "shards"


@dataclass(frozen=True, kw_only=True)
class Chats:
    """Settings of the chats that the donor answers."""

    prompts: Annotated[str, Setting("Text file with a prompt on each line.")]
    count: Annotated[int, Setting("Number of chats; prompts are asked again where there are fewer.", least=1)] = 1000
    max_tokens: Annotated[int, Setting("Maximum number of tokens of an answer.", least=1)] = 256
    temperature: Annotated[float, Setting("Sampling temperature.", least=0)] = 0.8
    parallel: Annotated[int, Setting("Number of prompts answered at once.", least=1)] = 16
    holdout: Annotated[float, Setting("Share of the chats that is held out.", least=0, below=1)] = 0.02

    def __post_init__(self) -> None:
        check_settings(self, "chats")


def make_chats(donor: LanguageModel, settings: Chats, seed: int, place: Path, watch: Watch) -> Path:
    """Directory of shards of chats that the donor has answered, made in `place` or found there."""
    require_chats(donor, settings)
    assert donor.tokenizer is not None
    prompts = _read_prompts(Path(settings.prompts))
    place.mkdir(parents=True, exist_ok=True)
    done = sum(1 for _ in _chats_in(place / FILE))
    for begin in range(done, settings.count, settings.parallel):
        numbers = range(begin, min(begin + settings.parallel, settings.count))
        answered = _answered(donor, [prompts[number % len(prompts)] for number in numbers], numbers, settings, seed)
        with (place / FILE).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"messages": chat}) + "\n" for chat in answered)
        watch.said(f"chats: {numbers.stop} of {settings.count}")
    shards = place / SHARDS
    if not (shards / MANIFEST).exists():
        build(shards, [place / FILE], donor.tokenizer, DataRecipe(kind="chat", holdout=settings.holdout))
    return shards


def require_chats(donor: LanguageModel, settings: Chats) -> None:
    """`InputError` unless the donor can answer the prompts."""
    if donor.tokenizer is None or donor.tokenizer.chat_template is None:
        raise InputError("the donor has no chat template, so that it can answer no chats; leave the table chats out")
    _read_prompts(Path(settings.prompts))


def digest_of(settings: Chats) -> str:
    """SHA-256 of the prompts."""
    return hashlib.sha256("\n".join(_read_prompts(Path(settings.prompts))).encode()).hexdigest()


def _answered(
    donor: LanguageModel, prompts: Sequence[str], numbers: Sequence[int], settings: Chats, seed: int
) -> Iterator[list[dict[str, str]]]:
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    sampling = Sampling(max_tokens=settings.max_tokens, temperature=settings.temperature)
    with donor.engine() as engine:
        handles = [
            engine.submit(_request(donor, chat, replace(sampling, seed=seed * 1_000_003 + number)))
            for chat, number in zip(chats, numbers, strict=True)
        ]
        for chat, handle in zip(chats, handles, strict=True):
            text = "".join(token.text for _, token in handle)
            yield [*chat, {"role": "assistant", "content": text}]


def _request(donor: LanguageModel, chat: list[dict[str, str]], sampling: Sampling) -> Request:
    return Request(ids=tuple(donor.encode(chat)), sampling=sampling)


def _chats_in(file: Path) -> Iterator[str]:
    """Whole lines of a file; a line that was cut off by a kill is taken out of it."""
    if not file.exists():
        return
    text = file.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        file.write_bytes(whole)
    yield from whole.decode().splitlines()


def _read_prompts(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read chats.prompts {file}: {error}") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"chats.prompts {file} holds no prompt")
    return prompts
