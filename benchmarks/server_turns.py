"""Turns of a chat at two servers, braidlm's and llama-cpp-python's, on SmolLM2-135M's own file: time to first word.

    pip install 'llama-cpp-python[server]' && python -m benchmarks.server_turns

`--baseline PYTHON` takes llama-cpp-python from another environment. One that is built without AMX is needed where
llama.cpp's code for it ends with an illegal instruction, as it does on this file; the stream then breaks off:

    AMX_LEFT_OUT='-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON'
    CMAKE_ARGS="$AMX_LEFT_OUT" baseline/bin/pip install --no-cache-dir 'llama-cpp-python[server]'
    python -m benchmarks.server_turns --baseline baseline/bin/python

Both serve the same GGUF file with its weights as they are stored (Q4_1), both are asked through
`/v1/chat/completions` with all messages so far, as a browser would, and answer greedily. llama-cpp-python's server
runs twice: as it comes, when it goes on from what its context holds, and with its cache of states in memory
(`--cache true`, its default size). Servers take turns, turn by turn; after the turns an earlier message is said anew
and what followed is dropped. Tokens reused are what a server reports, where it does. A ratio is the baseline's seconds
over braidlm's, the median of all rounds with the smallest and the largest; braidlm must not be slower.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2

from braidlm.api.places import resolve
from braidlm.bench.table import spread

from . import report
from .report import Report, milliseconds
from .serving import Server, braid_serve, started

MODEL = "smollm2-135m"
BRAIDLM, PLAIN, CACHED = "braidlm", "llama-cpp-python", "llama-cpp-python, cache"
EDIT = "edit"
WORDS = "river stone winter harbour letter garden engine paper market island violin bridge copper shadow".split()

Messages = list[dict[str, str]]


def servers(baseline: str, place: Path, running: ExitStack) -> dict[str, Server]:
    """All three, each asked once so that none of them pays for its start later."""
    llama = [baseline, "-m", "llama_cpp.server", "--model", str(resolve(MODEL)), "--n_ctx", "8192", "--port", "0"]
    (place / BRAIDLM).mkdir()
    found = {
        BRAIDLM: braid_serve(MODEL, "--quantize", "keep", directory=place / BRAIDLM),
        PLAIN: started(llama, place / "plain.log"),
        CACHED: started([*llama, "--cache", "true"], place / "cached.log"),
    }
    for server in found.values():
        running.callback(server.end)
    found[BRAIDLM].await_ready()
    for server in found.values():
        answered(server, [{"role": "user", "content": "hello"}], 2)
    return found


def answered(server: Server, messages: Messages, tokens: int) -> tuple[float, str, int | None]:
    """Seconds to the first piece of text, the whole answer, and prompt tokens that were reused, if that is told."""
    body: dict[str, Any] = {"messages": messages, "max_tokens": tokens, "temperature": 0.0, "stream": True}
    body["stream_options"] = {"include_usage": True}
    begun, first, pieces, reused = time.perf_counter(), 0.0, [], None
    with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=None) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            for choice in event["choices"]:
                if text := choice["delta"].get("content"):
                    first = first or time.perf_counter() - begun
                    pieces.append(text)
            if usage := event.get("usage"):
                reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return first, "".join(pieces), reused


Found = dict[str, dict[str, list[tuple[float, int | None]]]]


def one_chat(served: dict[str, Server], given: argparse.Namespace, rng: random.Random, found: Found) -> None:
    """Turns and an edit of the middle one; each server goes on from its own answers."""
    chats: dict[str, Messages] = {name: [] for name in served}

    def say(what: str) -> None:
        message = {"role": "user", "content": " ".join(rng.choices(WORDS, k=given.words))}
        for name, server in served.items():
            chats[name].append(message)
            first, text, reused = answered(server, chats[name], given.tokens)
            chats[name].append({"role": "assistant", "content": text})
            found.setdefault(what, {}).setdefault(name, []).append((first, reused))

    for number in range(given.turns):
        say(str(number + 1))
    for chat in chats.values():
        del chat[given.turns // 2 * 2 :]
    say(EDIT)


def measure(given: argparse.Namespace, report: Report) -> None:
    """All rounds."""
    rng, found = random.Random(given.seed), Found()
    with tempfile.TemporaryDirectory(prefix="braidlm-turns-") as place, ExitStack() as running:
        served = servers(given.baseline, Path(place), running)
        for number in range(given.rounds):
            one_chat(served, given, rng, found)
            report.say(f"round {number + 1} of {given.rounds}")
    rows = []
    for what, sides in found.items():
        reused = max(tokens or 0 for _, tokens in sides[BRAIDLM])
        row: list[object] = [what, milliseconds(statistics.median(s for s, _ in sides[BRAIDLM])), reused]
        for baseline in (PLAIN, CACHED):
            row += [milliseconds(statistics.median(s for s, _ in sides[baseline])), spread(ratios(sides, baseline))]
        rows.append(row)
    report.table(["turn", BRAIDLM, "tokens reused", PLAIN, "braidlm is", CACHED, "braidlm is"], rows)
    report.found["seconds"] = found
    for baseline in (PLAIN, CACHED):
        later = [ratio for what in found if what not in ("1", EDIT) for ratio in ratios(found[what], baseline)]
        for what, those in (("later turns", later), ("an edit", ratios(found[EDIT], baseline))):
            report.check(f"{what}, {spread(those)} as fast as {baseline}", statistics.median(those) >= 1)


def ratios(sides: dict[str, list[tuple[float, int | None]]], baseline: str) -> list[float]:
    """A baseline's seconds over braidlm's, round by round."""
    return [
        baseline_seconds / seconds
        for (baseline_seconds, _), (seconds, _) in zip(sides[baseline], sides[BRAIDLM], strict=True)
    ]


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--baseline", default=sys.executable, metavar="PYTHON", help="that has llama-cpp-python")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--words", type=int, default=60, help="of each message")
    parser.add_argument("--tokens", type=int, default=40, help="of each answer, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
