"""Recipe of a build: how sources are read, and what becomes of bad documents."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ...errors import InputError

Kind = Literal["text", "jsonl", "parquet", "chat", "dataset"]
OnBad = Literal["error", "skip"]

_FIELDS = {"chat": "messages"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a build.

    kind: of the sources; "chat" are conversations, in JSONL or Parquet files. field: the field or column that holds the
    document, "" for "text" (of chat: "messages"). separator: what stands between the documents of a text file; without
    one a file is a document. end: the control token that ends a document, else the tokenizer's own. on_bad: what a bad
    document does. holdout: documents that are kept from training: a share of them below 1, or a number. split, subset,
    streamed: split and configuration of a dataset, and whether it is read while it is downloaded.
    """

    kind: Kind = "text"
    field: str = ""
    separator: str | None = None
    end: str | None = None
    on_bad: OnBad = "error"
    holdout: float = 0
    split: str = "train"
    subset: str | None = None
    streamed: bool = False

    def __post_init__(self) -> None:
        if self.separator is not None and (self.kind != "text" or not self.separator):
            raise InputError("a separator is for text files, and must not be empty")
        if self.holdout < 0 or (self.holdout >= 1 and self.holdout != int(self.holdout)):
            raise InputError(f"holdout is {self.holdout}, but must be a share below 1 or a whole number of documents")

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
