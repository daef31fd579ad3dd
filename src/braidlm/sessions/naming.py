"""Names of the files in a directory of sessions: changed by one thread of one process at a time."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..system.files import is_there


class SessionExistsError(InputError):
    """Refusal of a new session whose name is taken."""


class SessionChangedError(InputError):
    """Refusal to replace a session that another process has changed or deleted since it was read."""


class Stamp(NamedTuple):
    """Stamp of a file: tells it from all others that had its name before or get it later."""

    inode: int
    changed: int  # nanoseconds since 1970
    size: int


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)


class Naming:
    """Lock of a directory's names, for the threads of this process and for other processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the lock for the time of a `with` block; `OSError` if there is no directory."""
        with self._lock:
            descriptor = os.open(self._directory, os.O_RDONLY)
            try:
                with contextlib.suppress(OSError):  # a file system without locks; a link to a new name is atomic there
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def link_new(self, source: Path, path: Path) -> None:
        """Gives a file a second name that nothing has; `SessionExistsError` if something has it, `OSError` as links."""
        with self.alone():
            require_new(path)
            try:
                os.link(source, path)
            except FileExistsError:
                raise _taken(path) from None

    def place_new(self, temporary: Path, path: Path) -> None:
        """Gives a temporary file a name that nothing has; `SessionExistsError` if something has it."""
        try:
            self.link_new(temporary, path)  # which fails if the name is taken, also where locks do not work
        except OSError:  # a file system without links
            with self.alone():
                require_new(path)
                os.replace(temporary, path)

    def place_instead(self, stamp: Stamp, temporary: Path, path: Path) -> None:
        """Gives a file the name of the one of this stamp; `SessionChangedError` if that is no longer there."""
        with self.alone():
            if stamp_of(path) != stamp:
                raise SessionChangedError(
                    f"session {path.stem} was changed or deleted elsewhere meanwhile; what was to be stored is not"
                )
            os.replace(temporary, path)


def require_new(path: Path) -> None:
    """`SessionExistsError` if there is anything of this name, be it a link that leads nowhere."""
    if is_there(path):
        raise _taken(path)


def _taken(path: Path) -> SessionExistsError:
    return SessionExistsError(f"there is a session {path.stem} already")
