"""Command loop of a side's process: commands and answers as JSON lines.

A command is {"do": method, ...its arguments}; an answer {"ok": value} or {"error": one sentence}.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Protocol


class Side(Protocol):
    """Interface of a side: a library that holds one model and runs tasks."""

    def load(self, path: str, precision: str, threads: int) -> dict[str, Any]:
        """Opens the model's files; gives what can be said about the library and its settings."""
        ...

    def prefill(self, length: int) -> float:
        """Seconds of one pass over a prompt: the last token's logits, and the state to go on from."""
        ...

    def decode(self, context: int, tokens: int, batch: int) -> float:
        """Seconds of `tokens` passes of one greedy token for each of `batch` sequences after `context` tokens."""
        ...


def serve(side: object) -> None:
    """Answers commands, methods of `side` (a `Side`, or one that can do other things), until standard input ends."""
    # Libraries print what they like to standard output, in C too: only answers may go there.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            do = command.pop("do")
            answer = {"ok": memory() if do == "memory" else getattr(side, do)(**command)}
        except Exception as error:  # whatever a library raises is told to the other end
            text = (str(error).strip() or type(error).__name__).split("\n")[0]
            answer = {"error": f"{type(error).__name__}: {text}"}
        print(json.dumps(answer), file=answers)


def memory(process: int | str = "self") -> dict[str, int]:
    """Memory of a process in bytes: now, and at most so far. Pages of mapped files count where they were touched."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {"now": int(found["VmRSS"]) * 1024, "peak": int(found["VmHWM"]) * 1024}
