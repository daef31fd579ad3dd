"""Session: one conversation, as messages and as token ids, and its file, which holds snapshots as well."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..engine import Snapshot
from ..errors import InputError, StateError, quoted
from ..generation.sampling import Sampling
from ..state import state_file
from ..state.state_file import Owner
from ..system.files import parse_json
from .transcripts import MessageEnd

FORMAT = "braidlm-session-1"
# States that a file holds beside that of the end: in a session of Granite-4.0-H-Tiny, 54 MiB each.
RUNGS = 4
# Levels of lists and objects in messages; arguments of calls, the deepest of what is told, have up to 100.
_DEPTH = 200


@dataclass
class Session:
    """A conversation: `messages` as a client sees them, `text` and `ids` as the model saw them, answers included.

    `message_ends` are where messages end in `text`. `sampling` is that of the last answer. `created` and
    `updated` are seconds since 1970.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    ids: tuple[int, ...] = ()
    message_ends: tuple[MessageEnd, ...] = ()
    sampling: Sampling | None = None
    created: float = 0.0
    updated: float = 0.0


class StoredSession(NamedTuple):
    """Contents of a session's file: the session, and snapshots of its ids, shortest first."""

    session: Session
    snapshots: tuple[Snapshot, ...]


def write_session(
    path: Path,
    session: Session,
    snapshots: Sequence[Snapshot],
    owner: Owner,
    model: str,
    place: Callable[[Path, Path], object] = os.replace,
) -> None:
    """Writes a session whole or not at all; `model` is a name for people, `place` gives the file its name."""
    try:
        _require_depth(session.messages)
    except ValueError as error:
        raise InputError(f"cannot save the session to {path}: {error}") from None
    kept = thinned(snapshots)
    metadata = {
        "model": model,
        "tokens": str(len(session.ids)),
        "messages": json.dumps(session.messages),
        "text": json.dumps(session.text),
        "message_ends": json.dumps(session.message_ends),
        "sampling": json.dumps(session.sampling and asdict(session.sampling)),
        "created": repr(session.created),
        "updated": repr(session.updated),
    }
    ids = torch.tensor(session.ids, dtype=torch.int32)
    rows = [snapshot.state for snapshot in kept]
    state_file.write_states(
        path, FORMAT, owner, rows, metadata=metadata, more={"ids": ids}, one_sequence=True, place=place
    )


def read_session(path: Path, owner: Owner) -> StoredSession:
    """Reads a session's file; `StateError` if it is damaged or belongs to another model or precision."""
    metadata, rows, beside = state_file.read_states(path, FORMAT, owner, beside=("ids",), one_sequence=True)
    session, ids = session_of(metadata, path), tuple(beside["ids"].tolist())
    if any(row.length > len(ids) for row in rows):
        raise StateError(f"{path} is damaged: it holds states of more tokens than its text has")
    if metadata.get("tokens") != str(len(ids)):
        raise StateError(f"{path} is damaged: it has {len(ids)} tokens, and another number in its header")
    session.ids = ids
    return StoredSession(session, tuple(Snapshot(ids[: row.length], row) for row in rows))


def session_of(metadata: dict[str, str], path: Path) -> Session:
    """The session that a file's header describes, but for its ids."""
    try:
        sampling = parse_json(metadata["sampling"])
        if sampling is not None:
            sampling = _sampling_of(sampling)
        messages, text = parse_json(metadata["messages"]), parse_json(metadata["text"])
        if not _are_messages(messages) or not isinstance(text, str):
            raise ValueError("a part of it is of another kind")
        ends = tuple(
            MessageEnd(_whole(characters), _whole(ids)) for characters, ids in parse_json(metadata["message_ends"])
        )
        return Session(messages, text, (), ends, sampling, _time(metadata["created"]), _time(metadata["updated"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"{path} is damaged: {error}") from None
    except RecursionError:
        raise StateError(f"{path} is damaged: it is nested too deep") from None


def _are_messages(value: Any) -> bool:
    """Whether these are messages, in text that can be written as UTF-8 and not too deep; `ValueError` if it is not."""
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    _require_depth(value)
    return isinstance(value, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in value
    )


def _require_depth(value: Any) -> None:
    """`ValueError` if lists and objects lie in each other in more levels than any template or client follows."""
    level = [value]
    for _ in range(_DEPTH):
        inner = [item for item in level if isinstance(item, list | dict)]
        level = [item for one in inner for item in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return
    raise ValueError(f"its messages are nested more than {_DEPTH} deep")


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise ValueError(f"a message end is {quoted(value)}")
    return value


def _time(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 2**37:  # before the year 6325: what a date can show
        raise ValueError(f"a time is {quoted(text)}")
    return seconds


def _sampling_of(fields: dict[str, Any]) -> Sampling:
    """Sampling from JSON, whose lists and keys are of other types."""
    biases = {int(token): bias for token, bias in dict({**fields}.get("logit_bias", {})).items()}
    return Sampling(**{**fields, "stop": tuple(fields["stop"]), "logit_bias": biases})


def thinned(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The last of `snapshots`, and at most `RUNGS` of those before: ever farther apart towards the beginning."""
    if not snapshots:
        return []
    *before, last = snapshots
    while len(before) > RUNGS:
        # The one goes whose neighbours are closest, measured by how far they are from the end.
        ends = [0, *(len(state.ids) for state in before), len(last.ids)]
        worth = [(ends[i + 1] - ends[i - 1]) / (ends[-1] - ends[i] + 1) for i in range(1, len(ends) - 1)]
        del before[worth.index(min(worth))]
    return [*before, last]
