"""Sessions in a directory, one file each: named, listed, forked, deleted. What is there is always whole."""

import os
import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import row_file
from ..engine import Kept
from ..errors import InputError, StateError
from ..files import sweep, whole_file
from ..row_file import Owner
from . import session as files
from .session import Session, Stored

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_SUFFIX = ".session"


class NoSessionError(StateError):
    """A session that does not exist."""


class SessionExistsError(InputError):
    """A new session whose name is taken."""


class About(NamedTuple):
    """What is said of a session without loading its model: sizes in bytes, times in seconds since 1970."""

    name: str
    model: str
    title: str
    messages: list[dict[str, Any]]
    tokens: int
    bytes: int
    created: float
    updated: float


class SessionStore:
    """The sessions of one directory, which is made at the first saving. May be used from several threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._swept = False
        self._lock = threading.Lock()  # that two do not take the same new name

    @classmethod
    def default(cls) -> "SessionStore":
        """The user's own: `$BRAIDLM_SESSIONS`, else below `$XDG_DATA_HOME`, else below the home directory."""
        if own := os.environ.get("BRAIDLM_SESSIONS"):
            return cls(Path(own))
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return cls(Path(data) / "braidlm" / "sessions")

    def path(self, name: str) -> Path:
        """The file of a session, whether it exists or not."""
        if not _NAME.fullmatch(name):
            raise InputError(f"session name {name!r} must be 1 to 100 letters, digits, dots, - or _, no dot first")
        return self.directory / (name + _SUFFIX)

    def __contains__(self, name: str) -> bool:
        return self.path(name).exists()

    def require_new(self, name: str) -> None:
        """`SessionExistsError` if there is a session of this name."""
        if name in self:
            raise SessionExistsError(f"there is a session {name} already")

    def names(self) -> list[str]:
        """All names, those changed last first."""
        found = []
        for path in self.directory.glob(f"*{_SUFFIX}") if self.directory.is_dir() else ():
            name = path.name.removesuffix(_SUFFIX)
            if _NAME.fullmatch(name):
                try:
                    found.append((-path.stat().st_mtime, name))
                except FileNotFoundError:  # deleted meanwhile
                    continue
        return [name for _, name in sorted(found)]

    def about(self, name: str) -> About:
        """What the file's header says."""
        path = self._existing(name)
        header = row_file.header(path, files.FORMAT)
        session = files.session_of(header, path)
        try:
            tokens, size = int(header["tokens"]), path.stat().st_size
        except (KeyError, ValueError, OSError) as error:
            raise StateError(f"{path} is damaged: {error}") from None
        return About(
            name, header.get("model", ""), _title(session), session.messages, tokens, size,
            session.created, session.updated,
        )  # fmt: skip

    def all(self) -> list[About]:
        """Every session that can be read, those changed last first."""
        found = []
        for name in self.names():
            try:
                found.append(self.about(name))
            except StateError:  # not ours to judge: a listing leaves it out, opening it says what is wrong
                continue
        return found

    def load(self, name: str, owner: Owner) -> Stored:
        """A session with its states; `StateError` if it is damaged or of another model."""
        return files.read(self._existing(name), owner)

    def save(self, name: str, session: Session, states: Sequence[Kept], owner: Owner, model: str) -> None:
        """Writes a session in place of the one of this name; on an error that one stays."""
        path = self.path(name)
        self._make_directory()
        files.write(path, session, states, owner, model)

    def fork(self, name: str, new: str) -> None:
        """A copy under another name."""
        source, target = self._existing(name), self.path(new)
        with self._lock:
            self.require_new(new)
            try:
                os.link(source, target)  # files are replaced, never changed: a second name is a copy
            except FileExistsError:  # another server was quicker
                raise SessionExistsError(f"there is a session {new} already") from None
            except OSError:
                with whole_file(target) as temporary:
                    shutil.copyfile(source, temporary)

    def delete(self, name: str) -> None:
        """Removes a session for good."""
        try:
            self._existing(name).unlink()
        except OSError as error:
            raise InputError(f"cannot delete session {name}: {error.strerror or error}") from None

    def _existing(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_file():
            raise NoSessionError(f"there is no session {name} in {self.directory}")
        return path

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not self._swept:
                sweep(self.directory, _SUFFIX)
                self._swept = True
        except OSError as error:
            raise InputError(f"cannot write {self.directory}: {error.strerror or error}") from None


def _title(session: Session) -> str:
    """The first words that a user said."""
    texts = (message.get("content") for message in session.messages if message.get("role") == "user")
    first = next((text for text in texts if isinstance(text, str)), "")
    words = " ".join(first.split())
    return words if len(words) <= 60 else words[:59] + "…"
