"""Many clients at once against a real `braid serve`: no errors, flat memory, the same streams, no long waits.

    python -m benchmarks.clients --minutes 5                  # 64 clients: errors, memory, the pace of streams
    python -m benchmarks.clients --minutes 5 --deterministic  # and every sampled stream is the one it is alone
    python -m benchmarks.clients --long 16384                 # the pace of streams while a long prompt is read
    python -m benchmarks.clients --throughput                 # tokens a second, 16 clients over one

Clients ask for prompts of mixed lengths, a third of them with a beginning that others share, and for answers of
mixed lengths, each with its seed. The server's resident size is looked at in two ways: at rest, after a warm-up of
40% of the time and after the time, where it may be 4 MiB more for each minute between; and in the last 60% of it,
where it wanders by a tenth with the texts that run, so that a rise counts if it is two standard errors above that.
`--cache-memory` is small, so that the cache is full by then. Alone, a stream is asked for from a second server that
keeps nothing; equal means the same tokens and the same bits of their log probabilities. The bars: streams at half
their pace at worst while a long prompt is read, and 16 clients at 5 times the tokens of one. Weights are in bfloat16:
SmolLM2-135M has its own, other presets random ones.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from braidlm.api.loading import read_spec
from braidlm.bench.sides.serve import memory
from braidlm.errors import InputError

from . import growth, pace, report, streams
from .report import Report, milliseconds
from .serving import Server, servable, serving
from .streams import Stream

SLOPE = 4.0  # MiB a minute
WARM_UP = 0.4  # of the time
_REST_S = 40.0  # an engine gives freed memory back after 30 seconds of rest
_LEAST_MINUTES = 3.0
_LOOK_S = 2.0
_BEGINNINGS, _BEGINNING = 8, 200


@dataclass
class Load:
    """What came of it: answers, errors in words, (second, bytes of the server), and its bytes at rest afterwards."""

    answers: list[Stream] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    sizes: list[tuple[float, int]] = field(default_factory=list)
    at_rest: int = 0


class Asking:
    """Requests of many kinds, the same ones for the same seed."""

    def __init__(self, vocab: int, longest: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._vocab = vocab
        self._longest = longest
        self._beginnings = [streams.random_ids(self._rng, _BEGINNING, vocab) for _ in range(_BEGINNINGS)]

    def next(self) -> dict[str, Any]:
        """The next request: as many short prompts as long ones, by their length's logarithm."""
        rng = self._rng
        ids = streams.random_ids(rng, round(8 * (self._longest / 8) ** rng.random()), self._vocab)
        if rng.random() < 1 / 3:
            ids = rng.choice(self._beginnings) + ids
        return streams.asked(ids, rng.randint(8, 96), rng.randrange(1 << 31))


async def loaded(server: Server, asking: Asking, clients: int, seconds: float) -> Load:
    """Keeps so many clients busy for so long; each lets its last answer end. Then waits for the server to rest."""
    found, begun = Load(), time.perf_counter()

    async def client(connection: Any) -> None:
        while time.perf_counter() - begun < seconds:
            try:
                found.answers.append(await streams.read(connection, asking.next()))
            except Exception as error:  # whatever it is, it is what this looks for
                found.errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(_LOOK_S)

    async def watch() -> None:
        while (now := time.perf_counter() - begun) < seconds:
            found.sizes.append((now, memory(server.process.pid)["now"]))
            await asyncio.sleep(min(_LOOK_S, seconds / 50))

    async with streams.client(server.url) as connection:
        await asyncio.gather(watch(), *(client(connection) for _ in range(clients)))
        await asyncio.sleep(_REST_S)
    found.at_rest = memory(server.process.pid)["now"]
    return found


async def unlike_alone(server: Server, answers: Sequence[Stream]) -> list[Stream]:
    """Those of `answers` that are others when nothing else runs."""
    async with streams.client(server.url) as connection:
        return [answer for answer in answers if (await streams.read(connection, answer.body)).tokens != answer.tokens]


def under_load(given: argparse.Namespace, report: Report) -> None:
    """64 clients for some minutes."""
    if given.minutes < _LEAST_MINUTES:
        raise InputError(f"--minutes is {given.minutes:g}, but a trend of memory needs {_LEAST_MINUTES:g} at least")
    name = given.model or "smollm2-135m"
    asking = Asking(read_spec(name).vocab, given.longest, given.seed)
    options = ["--dtype", "bfloat16", *(["--deterministic"] if given.deterministic else [])]
    options += [] if given.threads is None else ["--threads", str(given.threads)]
    with tempfile.TemporaryDirectory(prefix="braidlm-clients-") as place:
        model = servable(name, Path(place))
        with serving(model, "--cache-memory", given.cache_memory, *options) as server:
            before = asyncio.run(loaded(server, asking, given.clients, 60 * given.minutes * WARM_UP))
            load = asyncio.run(loaded(server, asking, given.clients, 60 * given.minutes))
        _tell(report, name, given, load, before)
        if given.deterministic:
            sample = random.Random(given.seed).sample(load.answers, min(given.sample, len(load.answers)))
            with serving(model, "--cache-memory", "0", *options) as alone:
                unlike = asyncio.run(unlike_alone(alone, sample))
            report.found["unlike_alone"] = len(unlike)
            report.check(f"{len(sample)} sampled streams are bit for bit what they are alone", not unlike)


def _tell(report: Report, name: str, given: argparse.Namespace, load: Load, before: Load) -> None:
    # It begins at rest: the rise to its own level is no growth.
    late = [(second, size) for second, size in load.sizes if second > WARM_UP * 60 * given.minutes]
    slope, error = growth.trend(late)
    at_rest = (load.at_rest - before.at_rest) / 2**20
    errors = before.errors + load.errors
    means = [mean for answer in load.answers if (mean := answer.seconds_per_token(0, float("inf"))) is not None]
    firsts = [answer.times[0] - answer.begun for answer in load.answers if answer.times]
    figures = {
        "model": name, "clients": given.clients, "minutes": given.minutes, "answers": len(load.answers),
        "prompt_tokens": sum(answer.usage.get("prompt_tokens", 0) for answer in load.answers),
        "written_tokens": sum(len(answer.tokens) for answer in load.answers),
        "first_token_seconds": statistics.median(firsts), "token_seconds": statistics.median(means),
        "memory_mib": load.sizes[-1][1] / 2**20, "mib_per_minute": slope, "standard_error": error,
        "at_rest_mib": [size / 2**20 for size in (before.at_rest, load.at_rest)], "errors": errors[:20],
    }  # fmt: skip
    report.found |= figures | {"sizes": load.sizes}
    report.table(
        ["model", "clients", "answers", "prompt tokens", "written", "first token", "a token", "memory", "a minute"],
        [[
            name, given.clients, len(load.answers), figures["prompt_tokens"], figures["written_tokens"],
            milliseconds(statistics.median(firsts)), milliseconds(statistics.median(means)),
            f"{figures['memory_mib']:.0f} MiB", f"{slope:+.1f} ± {error:.1f} MiB",
        ]],
    )  # fmt: skip
    report.check(f"{len(errors)} errors {errors[:1] or ''}", not errors)
    report.check(
        f"memory at rest is flat: {before.at_rest / 2**20:.0f} MiB after the warm-up, {at_rest:+.1f} after "
        f"{given.minutes:g} minutes more (at most {SLOPE} a minute)", at_rest <= SLOPE * given.minutes,
    )  # fmt: skip
    report.check(
        f"memory under load is flat: {slope:+.1f} MiB a minute, standard error {error:.1f}", slope - 2 * error < SLOPE
    )


def measure(given: argparse.Namespace, report: Report) -> None:
    """What was asked for; the load if nothing was."""
    if given.long is not None:
        pace.beside_a_long_prompt(given, report)
    if given.throughput:
        pace.throughput(given, report)
    if given.minutes is not None or not (given.long or given.throughput):
        given.minutes = given.minutes or 5.0
        under_load(given, report)


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--model", help="a preset (smollm2-135m for the load, granite-4.0-h-350m otherwise)")
    parser.add_argument("--minutes", type=float, help="of load (5)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--longest", type=int, default=1500, help="tokens of the longest prompt of its own")
    parser.add_argument("--cache-memory", default="256MiB", help="the server's, for states of earlier texts")
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--sample", type=int, default=24, help="streams that are asked for again, alone")
    parser.add_argument("--long", type=int, metavar="TOKENS", help="of a prompt that is read while streams run")
    parser.add_argument("--streams", type=int, default=8, help="that run beside it")
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer, for --throughput")
    parser.add_argument("--rounds", type=int, default=5, help="for --long and --throughput")
    parser.add_argument("--threads", type=int, help="of the server")
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
