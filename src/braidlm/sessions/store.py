"""Store of sessions: a directory with one file each, which is always whole."""

import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..engine import Snapshot
from ..errors import BraidError, InputError, StateError
from ..state import state_file
from ..state.state_file import Owner
from ..system.files import is_there, sweep, whole_file
from . import session as files
from .naming import Naming, Stamp, require_new, stamp_of
from .session import Session, StoredSession

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_SUFFIX = ".session"


class NoSessionError(StateError):
    """Request for a session that does not exist."""


class SessionSummary(NamedTuple):
    """Summary of a session, read without its model: sizes in bytes, times in seconds since 1970."""

    name: str
    model: str
    title: str
    messages: list[dict[str, Any]]
    tokens: int
    bytes: int
    created: float
    updated: float


class Unreadable(NamedTuple):
    """Name of a session whose file cannot be read, and the reason in one sentence."""

    name: str
    reason: str


class Listing(NamedTuple):
    """All sessions of a directory, those changed last first, and the files that are none."""

    sessions: list[SessionSummary]
    unreadable: list[Unreadable]


class SessionStore:
    """Store of the sessions in one directory, which is made at the first saving.

    May be used from several threads, and by several processes on one directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._swept = False
        self._naming = Naming(directory)

    @classmethod
    def default(cls) -> "SessionStore":
        """Store of the user: `$BRAIDLM_SESSIONS`, else below `$XDG_DATA_HOME`, else below the home directory."""
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
        return is_there(self.path(name))

    def require_new(self, name: str) -> None:
        """`SessionExistsError` if there is a session of this name."""
        require_new(self.path(name))

    def stamp(self, name: str) -> Stamp | None:
        """Stamp of a session's file; None if there is none."""
        return stamp_of(self.path(name))

    def names(self) -> list[str]:
        """All names, those changed last first; `InputError` for a directory that cannot be read."""
        if not self.directory.is_dir():
            return []
        try:
            with os.scandir(self.directory) as entries:
                found = [
                    (-_changed(entry), entry.name.removesuffix(_SUFFIX)) for entry in entries if _is_session_file(entry)
                ]
        except OSError as error:
            raise InputError(f"cannot read {self.directory}: {error.strerror or error}") from None
        return [name for _, name in sorted(found)]

    def summary(self, name: str) -> SessionSummary:
        """Summary of a session, from its file's header."""
        with self._existing(name) as path:
            header = state_file.read_header(path, files.FORMAT)
            session = files.session_of(header, path)
            try:
                tokens, size = int(header["tokens"]), path.stat().st_size
            except (KeyError, ValueError, OSError) as error:
                raise StateError(f"{path} is damaged: {error}") from None
        return SessionSummary(
            name, header.get("model", ""), _title(session), session.messages, tokens, size,
            session.created, session.updated,
        )  # fmt: skip

    def listing(self) -> Listing:
        """Every session, and every file of one that cannot be read: none of these spoils the others."""
        found = Listing([], [])
        for name in self.names():
            try:
                found.sessions.append(self.summary(name))
            except NoSessionError:  # deleted meanwhile
                continue
            except StateError as error:
                found.unreadable.append(Unreadable(name, str(error)))
        return found

    def all(self) -> list[SessionSummary]:
        """Every session that can be read, those changed last first."""
        return self.listing().sessions

    def load(self, name: str, owner: Owner) -> StoredSession:
        """A session with its snapshots; `StateError` if it is damaged or of another model."""
        with self._existing(name) as path:
            return files.read_session(path, owner)

    def save(
        self,
        name: str,
        session: Session,
        snapshots: Sequence[Snapshot],
        owner: Owner,
        model: str,
        *,
        new: bool = False,
        instead_of: Stamp | None = None,
    ) -> Stamp:
        """Writes a session in place of the one of this name, and gives its stamp; on an error that one stays.

        `new`: `SessionExistsError` if there is one. `instead_of`: `SessionChangedError` unless it has this stamp.
        """
        path = self.path(name)
        place: Callable[[Path, Path], object] = os.replace
        if new:
            require_new(path)  # before anything is written
            place = self._naming.place_new
        elif instead_of is not None:
            place = functools.partial(self._naming.place_instead, instead_of)
        placed: list[Stamp] = []

        def noted(temporary: Path, target: Path) -> None:
            stamp = stamp_of(temporary)  # which it keeps under its new name
            place(temporary, target)
            placed.extend(filter(None, [stamp]))

        self._make_directory()
        files.write_session(path, session, snapshots, owner, model, noted)
        return placed[0]

    def fork(self, name: str, new: str) -> None:
        """A copy under another name; `SessionExistsError` if that is taken, `StateError` if there is none to copy."""
        target = self.path(new)
        self.summary(name)
        with self._existing(name) as source:
            try:
                self._naming.link_new(source, target)  # files are replaced, never changed: a second name is a copy
            except OSError:  # a file system without links, or a file with too many
                with whole_file(target, self._naming.place_new) as temporary:
                    shutil.copyfile(source, temporary)

    def delete(self, name: str) -> None:
        """Removes a session for good, whatever is wrong with its file."""
        try:
            with self._existing(name) as path, self._naming.alone():
                path.unlink()
        except OSError as error:
            raise InputError(f"cannot delete session {name}: {error.strerror or error}") from None

    @contextmanager
    def _existing(self, name: str) -> Iterator[Path]:
        """The file of a session that there is; `NoSessionError` if it is not there, or is gone in the meantime."""
        path = self.path(name)
        missing = f"there is no session {name} in {self.directory}"
        if not is_there(path):
            raise NoSessionError(missing)
        try:
            yield path
        except (BraidError, OSError):
            if is_there(path):
                raise
            raise NoSessionError(missing) from None

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not self._swept:
                sweep(self.directory, _SUFFIX)
                self._swept = True
        except OSError as error:
            raise InputError(f"cannot write {self.directory}: {error.strerror or error}") from None


def _is_session_file(entry: "os.DirEntry[str]") -> bool:
    """Whether a directory's entry has the name of a session."""
    return entry.name.endswith(_SUFFIX) and _NAME.fullmatch(entry.name.removesuffix(_SUFFIX)) is not None


def _changed(entry: "os.DirEntry[str]") -> float:
    """Time at which a file was changed; what is said of a link that leads nowhere; 0 of what is gone."""
    for follow in (True, False):
        try:
            return entry.stat(follow_symlinks=follow).st_mtime
        except OSError:
            continue
    return 0.0


def _title(session: Session) -> str:
    """The first words that a user said."""
    texts = (message.get("content") for message in session.messages if message.get("role") == "user")
    first = next((text for text in texts if isinstance(text, str)), "")
    words = " ".join(first.split())
    return words if len(words) <= 60 else words[:59] + "…"
