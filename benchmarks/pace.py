"""How fast streams come from a real server: beside a long prompt, and many at once. Run by `benchmarks.clients`."""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2

from braidlm.api.loading import read_spec
from braidlm.bench.table import spread
from braidlm.errors import InputError

from . import streams
from .report import Report, milliseconds
from .serving import Server, servable, serving
from .streams import Stream

SLOWEST = 2.0  # times the time per token while a long prompt is read
CLIENTS, GAIN = 16, 5.0
_USUAL = "granite-4.0-h-350m"
_SHORT = 16  # tokens of a prompt that is not measured
_CALM_S = 10.0


def beside_a_long_prompt(given: argparse.Namespace, report: Report) -> None:
    """Seconds a token of running streams while a long prompt is read, over those just before and after it."""
    name = given.model or _USUAL
    spec = read_spec(name)
    if spec.max_positions is not None and given.long >= spec.max_positions:
        raise InputError(f"{name} takes {spec.max_positions} tokens; give a smaller --long or another --model")
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="braidlm-pace-") as place, serving(servable(name, Path(place))) as server:
        rounds = []
        for number in range(given.rounds):
            long = streams.random_ids(rng, given.long, spec.vocab)
            short = [streams.random_ids(rng, _SHORT, spec.vocab) for _ in range(given.streams)]
            rounds.append(asyncio.run(_one_long(server, long, short, (spec.max_positions or 1 << 20) - _SHORT)))
            _tell_round(report, number, rounds[-1])
    ratios = {"median": [], "95th percentile": []}  # type: dict[str, list[float]]
    for calm, busy, _ in rounds:
        ratios["median"].append(statistics.median(busy) / statistics.median(calm))
        ratios["95th percentile"].append(_p95(busy) / _p95(calm))
    report.found["long"] = {"model": name, "tokens": given.long, "rounds": rounds, "ratios": ratios}
    for what, found in ratios.items():
        report.check(
            f"the streams' mean time a token ({what} of {given.streams}) while {given.long} tokens are read is "
            f"{spread(found)} that without (at most {SLOWEST}x)", statistics.median(found) <= SLOWEST,
        )  # fmt: skip


Round = tuple[list[float], list[float], float]  # each stream's seconds a token, calm and busy; seconds of reading


async def _one_long(server: Server, long: list[int], short: Sequence[list[int]], most: int) -> Round:
    async with streams.client(server.url) as connection:
        running = [Stream(streams.asked(ids, most, seed, 0.0)) for seed, ids in enumerate(short)]
        tasks = [asyncio.create_task(streams.read(connection, stream.body, stream)) for stream in running]
        while not all(stream.times for stream in running):
            await _pause(tasks)
        before = time.perf_counter()
        await asyncio.sleep(_CALM_S)
        begun = time.perf_counter()
        read = await streams.read(connection, streams.asked(long, 1, 0, 0.0))
        await asyncio.sleep(_CALM_S)
        after = time.perf_counter()
        await _pause(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    calm = [
        mean
        for stream in running
        for span in ((before, begun), (read.times[0], after))
        if (mean := stream.seconds_per_token(*span)) is not None
    ]
    busy = [mean for stream in running if (mean := stream.seconds_per_token(begun, read.times[0])) is not None]
    return calm, busy, read.times[0] - begun


async def _pause(tasks: Sequence["asyncio.Task[Stream]"]) -> None:
    """A moment; streams that have ended already cannot be measured."""
    await asyncio.sleep(0.05)
    for task in tasks:
        if task.done():
            task.result()
            raise InputError("a stream ended before the long prompt was read; give a smaller --long")


def _tell_round(report: Report, number: int, found: Round) -> None:
    calm, busy, seconds = found
    report.say(
        f"round {number + 1}: {milliseconds(statistics.median(calm))} a token without, "
        f"{milliseconds(statistics.median(busy))} beside the long prompt, which took {seconds:.1f} s"
    )


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def throughput(given: argparse.Namespace, report: Report) -> None:
    """Tokens a second of 16 clients over those of one, in turns."""
    name = given.model or _USUAL
    vocab, rng = read_spec(name).vocab, random.Random(given.seed)
    rates: dict[int, list[float]] = {1: [], CLIENTS: []}
    with (
        tempfile.TemporaryDirectory(prefix="braidlm-pace-") as place,
        # Random weights soon repeat themselves: with draft tokens, one client would get twice the pace of real text.
        serving(servable(name, Path(place)), "--speculative-tokens", "0") as server,
    ):
        for number in range(given.rounds + 1):
            for clients, found in rates.items():
                prompts = [streams.random_ids(rng, _SHORT, vocab) for _ in range(clients)]
                rate = asyncio.run(_rate(server, prompts, given.tokens))
                if number:  # the first round warms up
                    found.append(rate)
    ratios = [many / one for one, many in zip(rates[1], rates[CLIENTS], strict=True)]
    report.found["throughput"] = {"model": name, "tokens": given.tokens, "rates": rates, "ratios": ratios}
    report.table(
        ["model", "1 client, tok/s", f"{CLIENTS} clients, tok/s", "ratio"],
        [[name, *(f"{statistics.median(found):.1f}" for found in rates.values()), spread(ratios)]],
    )
    report.check(f"{CLIENTS} clients get {GAIN:.0f}x the tokens of one", statistics.median(ratios) >= GAIN)


async def _rate(server: Server, prompts: Sequence[list[int]], tokens: int) -> float:
    """Tokens a second, from the first request to the last answer's end; answers come whole."""

    async def whole(connection: httpx2.AsyncClient, ids: list[int]) -> int:
        body = {"prompt": ids, "max_tokens": tokens, "temperature": 0.0}
        reply = await connection.post("/v1/completions", json=body)
        return int(reply.raise_for_status().json()["usage"]["completion_tokens"])

    async with streams.client(server.url) as connection:
        begun = time.perf_counter()
        made = await asyncio.gather(*(whole(connection, ids) for ids in prompts))
        return sum(made) / (time.perf_counter() - begun)
