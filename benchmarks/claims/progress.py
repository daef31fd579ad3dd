"""Progress of a measurement, kept on disk after every piece, so that one that was stopped goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from braidlm.system.files import whole_file


class Progress:
    """Pieces that were measured with the same settings, by name; other settings begin anew.

    Without a file pieces are kept in memory alone.
    """

    def __init__(self, file: Path | None, settings: dict[str, Any], say: Callable[[str], None]) -> None:
        self._file = file
        self._settings = settings
        self._say = say
        self._pieces: dict[str, Any] = {}
        if file is not None and file.exists():
            stored = json.loads(file.read_text())
            if stored["settings"] == json.loads(json.dumps(settings)):
                self._pieces = stored["pieces"]

    def piece(self, name: str, measure: Callable[[], Any]) -> Any:
        """Gives a piece: the one that is kept, or what `measure` gives, which is kept from now on."""
        if name not in self._pieces:
            self._pieces[name] = measure()
            self._say(f"{name}: {self._pieces[name]}")
            if self._file is not None:
                with whole_file(self._file) as place:
                    place.write_text(json.dumps({"settings": self._settings, "pieces": self._pieces}))
        return self._pieces[name]

    def has(self, name: str) -> bool:
        """Whether a piece is kept already."""
        return name in self._pieces

    def remove(self) -> None:
        """Removes the file, once the result is stored."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
