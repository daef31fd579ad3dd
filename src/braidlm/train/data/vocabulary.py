"""Training of a vocabulary on texts: byte pairs over bytes (Sennrich et al. 2016; GPT-2, Radford et al. 2019).

Every text in UTF-8 can be said with it, and comes back as it was: the 256 bytes are tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from ...errors import InputError
from ...text.tokenizer import Settings, Tokenizer
from .reading import read_documents
from .recipe import Recipe
from .sources import find_files, read_file

END = "<|endoftext|>"
_LEAST = 257  # the bytes and the end
# Texts are read in parts of about this many bytes, cut at line ends: what is counted are words.
_PART = 2**22
_LINES = Recipe(kind="text", separator="\n")


def train(sources: Sequence[str | Path], vocab: int, progress: Callable[[int, int], None] | None = None) -> Tokenizer:
    """Trains a tokenizer of up to `vocab` tokens (fewer if the texts are short) on the lines of text files.

    `progress(done, total)` counts bytes read.
    """
    if vocab < _LEAST:
        raise InputError(f"a vocabulary of {vocab} tokens is too small; the bytes and the end of a text are {_LEAST}")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_lines(sources, progress), trainer)
    return Tokenizer(backend, Settings({"eos_token": END}))


def _lines(sources: Sequence[str | Path], progress: Callable[[int, int], None] | None) -> Iterator[str]:
    files = [read_file(path, number, _LINES, _PART) for number, path in enumerate(find_files(sources, "text"))]
    done, total = 0, sum(file.size for file in files)
    for file in files:
        if file.problem:
            raise InputError(f"{file.name}: {file.problem}")
        for place, size in file.slices:
            for record in read_documents(place, _LINES):
                if record.problem:
                    raise InputError(f"{file.name}, line {record.line}: {record.problem}")
                yield record.value + "\n"
            done += size
            if progress is not None:
                progress(done, total)
