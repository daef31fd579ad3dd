"""Recipe of a build: how sources are read, and what becomes of bad documents."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from ...errors import InputError
from ...system.settings import Setting, check_settings

Kind = Literal["text", "jsonl", "parquet", "chat", "dataset"]
OnBad = Literal["error", "skip"]

_FIELDS = {"chat": "messages"}


def _is_holdout(share: float) -> bool:
    return share >= 0 and (share < 1 or share == int(share))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a build, each as its setting describes it; conversations are in JSONL or Parquet files."""

    kind: Annotated[Kind, Setting("Kind of the sources: text, jsonl, parquet, chat or dataset.")] = "text"
    field: Annotated[
        str, Setting("Field or column that holds a document.", unset="text, or messages of a conversation")
    ] = ""
    separator: Annotated[
        str | None,
        Setting(r"Text between two documents of a text file; \n is a line end.", unset="one document a file"),
    ] = None
    eos_token: Annotated[str | None, Setting("Control token that ends a document.", unset="the tokenizer's")] = None
    holdout: Annotated[
        float,
        Setting(
            "Held-out documents, for evaluation: a share below 1, or their number.",
            valid=_is_holdout,
            right="a share below 1 or a whole number of documents",
        ),
    ] = 0
    on_bad_documents: Annotated[
        OnBad, Setting("Treatment of a bad document: error ends the run, skip leaves it out and counts it.")
    ] = "error"
    split: Annotated[str, Setting("Split of a dataset.")] = "train"
    subset: Annotated[str | None, Setting("Subset (configuration) of a dataset.", unset="its only one")] = None
    streamed: Annotated[bool, Setting("Streaming of a dataset: it is read while it is downloaded.", name="stream")] = (
        False
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.separator is not None and (self.kind != "text" or not self.separator):
            raise InputError("a separator is for text files, and must not be empty")

    @property
    def name_of_field(self) -> str:
        """Name of the field that holds a document."""
        return self.field or _FIELDS.get(self.kind, "text")


class Record(NamedTuple):
    """Document as it was read: a text or messages, with `tools` beside them; or what is wrong with it.

    `line` is the line (row) where it begins, from 1; 0 if it is a whole file.
    """

    line: int
    value: Any = None
    tools: Any = None
    problem: str = ""


def record_of(line: int, fields: Any, field: str) -> Record:
    """Document in the fields of a JSON object or a row."""
    if not isinstance(fields, dict):
        return Record(line, problem=f"holds {type(fields).__name__}, but must hold an object with the field {field!r}")
    value = fields.get(field)
    if value is None and field == _FIELDS["chat"]:
        value = fields.get("conversations")
    if value is None:
        there = ", ".join(map(str, list(fields)[:8])) or "none"
        return Record(line, problem=f"lacks the field {field!r} (its fields: {there})")
    return Record(line, value, fields.get("tools"))
