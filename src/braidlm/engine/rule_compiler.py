"""Compiler of rules as a program of its own, which may crash, hang or fill its memory without harm to who started it.

It imports nothing of braidlm, so that it starts in a tenth of a second. On standard input comes one JSON object a line:
first the vocabulary (tokenizer, vocab, ends), then rules (kind, text, defaults). It answers each with a line: what is
wrong with it as a JSON text, "" if nothing is.
"""

import json
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

# Half of what a compiled rule gets where it is used, so that what passes here overflows no stack there.
STACK_BYTES = 4 << 20
_MEMORY_BYTES = 512 << 20
_CPU_S = 10


def vocabulary(library: Any, tokenizer: str, vocab: int, ends: list[int]) -> Any:
    """The library's tokenizer; `ends` are ids that end a text."""
    return library.LLTokenizer(tokenizer, n_vocab=vocab, eos_token=ends or None)


def compiled(library: Any, tokens: Any, kind: str, text: str, defaults: dict[str, str]) -> Any:
    """The library's matcher of a rule; `ValueError` in one line if it is none. `defaults` are for JSON."""
    kinds = library.LLMatcher
    if kind == "json_schema":
        written = kinds.grammar_from_json_schema(text, defaults=defaults)
    else:
        written = kinds.grammar_from_regex(text) if kind == "regex" else kinds.grammar_from_lark(text)
    matcher = kinds(tokens, written, log_level=0)
    if matcher.is_error():
        raise ValueError(first_line(matcher.get_error()))
    return matcher


def first_line(text: str) -> str:
    """The first line of what the library says of an error; what follows shows the place in the rule."""
    return text.strip().split("\n")[0]


def on_a_stack(size: int, work: Callable[[], None]) -> None:
    """Runs `work` in a thread with so many bytes of stack."""
    before = threading.stack_size(size)
    try:
        thread = threading.Thread(target=work, name="braidlm-rules")
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()


def _limit() -> None:
    """Bounds what the next rule may use beside what is used already."""
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize() + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + _CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _serve(library: Any) -> None:
    tokens = vocabulary(library, **json.loads(sys.stdin.readline()))
    _tell("")
    for line in sys.stdin:
        if sys.platform == "linux":
            _limit()
        try:
            matcher = compiled(library, tokens, **json.loads(line))
            matcher.compute_bitmask()
            matcher.compute_ff_tokens()
            _tell("")
        except ValueError as error:
            _tell(first_line(str(error))[:1000] or "it is no rule")


def _tell(answer: str) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serves until standard input ends."""
    import llguidance  # noqa: PLC0415 - optional

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's, which is meant for who started this
    on_a_stack(STACK_BYTES, lambda: _serve(llguidance))


if __name__ == "__main__":
    main()
