"""Numbers of things: as options, which are at least 1, and in sentences."""

import argparse


def positive(text: str) -> int:
    """A whole number from 1 on, as an option gives it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def counted(count: int, thing: str) -> str:
    """A number of things in words: "1 round", "3 rounds"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
