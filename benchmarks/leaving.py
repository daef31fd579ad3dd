"""Many clients, half of whom leave in mid-stream: no fault, streams as alone, flat memory, /health answered at once.

    python -m benchmarks.leaving --minutes 5

Clients ask greedily, at random, for chats, completions, and talks in sessions, which are forked and go on in both; of
prompts and answers of mixed lengths. Every answer is known beforehand: the same was asked alone, of a server that keeps
nothing. Half of the streams are left after some words. What is told to the end must be that answer, what is left a
beginning of it, and what a session has stored of it too. Meanwhile /health is asked 20 times a second, by a thread of
its own. The server's resident size is that at rest, after a fifth of the time and at the end: under load it wanders
with the texts that run. Of requests that are refused for now (409, 429) there may be some; of 5xx, broken streams and
open files none may be left.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import tokenizers

import braidlm
from braidlm import LanguageModel
from braidlm.bench.sides.serve import memory
from braidlm.text.tokenizer import Settings, Tokenizer

from . import report, streams
from .report import Report, milliseconds
from .serving import Server, serving

SLOPE = 4.0  # MiB a minute
HEALTH_S = 0.2
WARM_UP = 0.2  # of the time
_POLL_S = 0.05
_LOOK_S = 1.0
_REST_S = 3.0  # until the server has noticed that the last clients have gone
_GIVEN_BACK_S = 33.0  # an engine gives freed memory back after 30 seconds of rest
_FILES = 4  # that may be open at the end beside those at the beginning: of connections that are kept
_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
_WORDS = "the river runs past an old mill where nobody has lived for many years and yet smoke rises from it".split()


@dataclass
class Question:
    """A request whose answer is known; in a session, two ways in which the talk goes on, with theirs."""

    path: str
    body: dict[str, Any]
    goes_on: tuple[str, str] | None = None
    answers: list[str] = field(default_factory=list)  # alone: to itself, and to what goes on


class Heard(NamedTuple):
    """What came of a stream: its status, the text, and whether its end was told."""

    status: int
    text: str
    whole: bool


@dataclass
class Found:
    """What was seen: streams by how they ended, statuses, what was wrong, seconds of /health, sizes of the server."""

    whole: int = 0
    left: int = 0
    sessions: int = 0
    forks: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    late: float = 0.0  # seconds that who asks for /health was itself kept waiting by this machine, at most
    sizes: list[tuple[float, int]] = field(default_factory=list)
    files: tuple[int, int] = (0, 0)  # open before and after
    at_rest: tuple[int, int] = (0, 0)  # bytes of the server after the warm-up, and at the end

    def judge(self, heard: Heard, expected: str, leaves: bool) -> bool:
        """Compares a stream with what it is alone; whether it was told to its end."""
        self.statuses[heard.status] += 1
        if heard.status != 200:
            self.require(heard.status in (409, 429), f"status {heard.status}: {heard.text}")
            return False
        self.whole += heard.whole
        self.left += not heard.whole
        self.require(heard.whole or leaves, f"a stream broke off after {heard.text[-40:]!r}")
        as_alone = heard.text == expected if heard.whole else expected.startswith(heard.text)
        self.require(as_alone, f"{heard.text[:80]!r}, but alone {expected[:80]!r}")
        return heard.whole

    def after(self, before: "Found") -> "Found":
        """The same with what was seen before counted in; memory and files from then on."""
        numbers = {name: getattr(self, name) + getattr(before, name) for name in ("whole", "left", "sessions", "forks")}
        return replace(
            self, **numbers, statuses=self.statuses + before.statuses, wrong=before.wrong + self.wrong,
            health=before.health + self.health, late=max(before.late, self.late),
            files=(before.files[0], self.files[1]),
        )  # fmt: skip

    def require(self, holds: bool, what: str) -> None:
        """Anything that must be."""
        if not holds:
            self.wrong.append(what)


def questions(seed: int, longest: int, answer: int, many: int = 8) -> list[Question]:
    """So many of each kind; prompts of up to `longest` words, as many short ones as long ones by their logarithm."""
    rng = random.Random(seed)

    def words() -> str:
        count = round(4 * (longest / 4) ** rng.random())
        return " ".join(rng.choice(_WORDS) for _ in range(count)) + "?"

    def body(**more: Any) -> dict[str, Any]:
        return {"max_tokens": rng.randint(4, answer), "temperature": 0, "stream": True, **more}

    found = []
    for _ in range(many):
        found.append(Question("/v1/completions", body(prompt=words())))
        found.append(Question("/v1/chat/completions", body(messages=_said(words()))))
        found.append(Question("/v1/chat/completions", body(messages=_said(words())), (words()[-200:], words()[-200:])))
    return found


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def hear(client: httpx2.AsyncClient, path: str, body: dict[str, Any], leave: int | None = None) -> Heard:
    """Reads a stream; with `leave`, as far as after so many pieces of text."""
    text, pieces = "", 0
    async with client.stream("POST", path, json=body) as reply:
        if reply.status_code != 200:
            return Heard(reply.status_code, (await reply.aread()).decode()[:300], False)
        async for line in reply.aiter_lines():
            if line == "data: [DONE]":
                return Heard(200, text, True)
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                return Heard(599, event["error"]["message"], False)
            for choice in event["choices"]:
                piece = choice.get("text") or choice.get("delta", {}).get("content") or ""
                text, pieces = text + piece, pieces + bool(piece)
            if leave is not None and pieces >= leave:
                return Heard(200, text, False)
    return Heard(200, text, False)


class Client:
    """Asks one question after the other, and leaves every second stream."""

    def __init__(self, http: httpx2.AsyncClient, found: Found, number: int, seed: int) -> None:
        self._http = http
        self._found = found
        self._number = number
        self._rng = random.Random(seed * 1000 + number)
        self._asked = 0

    async def ask(self, question: Question) -> None:
        """Asks it, and judges what comes."""
        leaves, most = self._rng.random() < 0.5, question.body["max_tokens"] // 2
        leave = self._rng.randint(1, most) if leaves else None
        if question.goes_on is None:
            heard = await hear(self._http, question.path, question.body, leave)
            self._found.judge(heard, question.answers[0], leave is not None)
            return
        self._asked += 1
        name = f"talk-{self._number}-{self._asked}"
        async with self._session("/v1/sessions", name):
            heard = await self._turn(name, question.body, leave)
            if self._found.judge(heard, question.answers[0], leave is not None):
                await self._go_on(question, name)
            else:
                await self._look(question, name)

    async def _go_on(self, question: Question, name: str) -> None:
        """Forks a session, and goes on in both at the same time."""
        assert question.goes_on is not None
        async with self._session(f"/v1/sessions/{name}/fork", f"{name}-fork"):
            self._found.forks += 1
            turns = [
                self._turn(one, {**question.body, "messages": _said(text)}, None)
                for one, text in zip((name, f"{name}-fork"), question.goes_on, strict=True)
            ]
            for heard, expected in zip(await asyncio.gather(*turns), question.answers[1:], strict=True):
                self._found.judge(heard, expected, leaves=False)

    async def _look(self, question: Question, name: str) -> None:
        """At once after a stream was left: what is stored of the answer is a beginning of it."""
        reply = await self._http.get(f"/v1/sessions/{name}")
        self._found.statuses[reply.status_code] += 1
        if reply.status_code != 200:
            self._found.require(reply.status_code in (409, 429), f"GET {name}: {reply.status_code} {reply.text[:200]}")
            return
        stored = [message["content"] for message in reply.json()["messages"] if message["role"] == "assistant"]
        as_alone = all(question.answers[0].startswith(text) for text in stored)
        self._found.require(as_alone, f"{name} has {stored}, but alone {question.answers[0]!r}")

    async def _turn(self, name: str, body: dict[str, Any], leave: int | None) -> Heard:
        return await hear(self._http, "/v1/chat/completions", {**body, "session": name}, leave)

    @asynccontextmanager
    async def _session(self, path: str, name: str) -> AsyncIterator[None]:
        """A session for the time of a `with` block."""
        made = await self._http.post(path, json={"id": name})
        self._found.statuses[made.status_code] += 1
        self._found.require(made.status_code == 201, f"{path}: {made.status_code} {made.text[:200]}")
        self._found.sessions += 1
        yield
        while (gone := await self._http.delete(f"/v1/sessions/{name}")).status_code == 409:
            self._found.statuses[409] += 1
            await asyncio.sleep(_LOOK_S)
        self._found.require(gone.status_code == 200, f"DELETE {name}: {gone.status_code} {gone.text[:200]}")


async def alone(url: str, asked: Sequence[Question]) -> None:
    """Notes the answers to all questions, asked one after the other."""
    async with streams.client(url) as http:
        for number, question in enumerate(asked):
            if question.goes_on is None:
                question.answers.append((await hear(http, question.path, question.body)).text)
                continue
            for text in question.goes_on:
                name = f"alone-{number}-{len(question.answers)}"
                await http.post("/v1/sessions", json={"id": name})
                first = await hear(http, question.path, {**question.body, "session": name})
                second = {**question.body, "session": name, "messages": _said(text)}
                question.answers = question.answers or [first.text]
                question.answers.append((await hear(http, question.path, second)).text)


async def under_load(
    url: str, process: int, asked: Sequence[Question], clients: int, seed: int, *, seconds: float, each: int
) -> Found:
    """Keeps so many clients asking for so long, each `each` questions at most and the last one to its end.

    Then waits until the server has rest.
    """
    found, begun, ended = Found(), time.perf_counter(), threading.Event()
    before = _open_files(process)

    async def client(http: httpx2.AsyncClient, number: int) -> None:
        one, rng = Client(http, found, number, seed), random.Random(seed + number)
        for _ in range(each):
            if time.perf_counter() - begun > seconds:
                return
            try:
                await one.ask(rng.choice(asked))
            except Exception as error:  # whatever it is, it is what this looks for
                found.wrong.append(f"{type(error).__name__}: {error}")

    async def watch() -> None:
        while True:
            found.sizes.append((time.perf_counter() - begun, memory(process)["now"]))
            await asyncio.sleep(_LOOK_S)

    poller = threading.Thread(target=_poll, args=(url, found, ended))
    poller.start()
    async with streams.client(url) as http:
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(client(http, number) for number in range(clients)))
        watching.cancel()
    ended.set()
    await asyncio.to_thread(poller.join)
    await asyncio.sleep(_REST_S)
    found.files = before, _open_files(process)
    return found


def _poll(url: str, found: Found, ended: threading.Event) -> None:
    """Asks for /health until the end."""
    with httpx2.Client(base_url=url, timeout=60) as http:
        asleep = time.perf_counter()
        while not ended.wait(_POLL_S):
            begun = time.perf_counter()
            found.late = max(found.late, begun - asleep - _POLL_S)
            status = http.get("/health").status_code
            found.health.append(time.perf_counter() - begun)
            found.require(status == 200, f"/health: {status}")
            asleep = time.perf_counter()


def _open_files(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def measure(given: argparse.Namespace, report: Report) -> None:
    """Alone first, then many at once."""
    asked = questions(given.seed, given.longest, given.answer)
    options = ["--deterministic", *([] if given.threads is None else ["--threads", str(given.threads)])]
    options += [] if given.quantize is None else ["--quantize", given.quantize]
    with tempfile.TemporaryDirectory(prefix="braidlm-leaving-") as place:
        model = _chatting(given.model, Path(place) / "model")
        with serving(model, "--cache-memory", "0", *options) as server:
            asyncio.run(alone(server.url, asked))
        with serving(model, "--cache-memory", given.cache_memory, *options) as server:
            found = asyncio.run(_loaded(server, asked, given))
    _tell(report, given, found)


def _chatting(name: str, path: Path) -> str | Path:
    """What `braid serve` takes for a model that can chat: a preset without a chat template gets a plain one."""
    model = braidlm.load(name)
    assert model.tokenizer is not None
    if model.tokenizer.chat_template is not None:
        return name
    words = Tokenizer(tokenizers.Tokenizer.from_str(model.tokenizer.to_json()), Settings({}, _TEMPLATE))
    LanguageModel(model.network, words, model.origin).save(path, format="braidlm")
    return path


async def _loaded(server: Server, asked: Sequence[Question], given: argparse.Namespace) -> Found:
    process, seconds = server.process.pid, 60 * given.minutes
    before = await under_load(
        server.url, process, asked, given.clients, given.seed, seconds=WARM_UP * seconds, each=sys.maxsize
    )
    await asyncio.sleep(_GIVEN_BACK_S)
    at_rest = memory(process)["now"]
    found = await under_load(
        server.url, process, asked, given.clients, given.seed + 1, seconds=(1 - WARM_UP) * seconds, each=sys.maxsize
    )
    await asyncio.sleep(_GIVEN_BACK_S)
    found.at_rest = at_rest, memory(process)["now"]
    return found.after(before)


def _tell(report: Report, given: argparse.Namespace, found: Found) -> None:
    before, after = (size / 2**20 for size in found.at_rest)
    most = max(size for _, size in found.sizes) / 2**20
    health = sorted(found.health)
    refused = found.statuses[409] + found.statuses[429]
    report.found |= {
        "model": given.model, "clients": given.clients, "minutes": given.minutes, "whole": found.whole,
        "left": found.left, "sessions": found.sessions, "forks": found.forks, "refused": refused,
        "statuses": dict(found.statuses), "health": len(health), "health_median": statistics.median(health),
        "health_longest": health[-1], "poller_late": found.late,
        "at_rest_mib": [before, after], "most_mib": most, "files": found.files,
        "wrong": found.wrong[:20],
    }  # fmt: skip
    report.table(
        ["clients", "whole", "left", "sessions", "forks", "refused", "memory", "/health", "files"],
        [[
            given.clients, found.whole, found.left, found.sessions, found.forks, refused,
            f"at rest {before:.0f}, {after:.0f} MiB, at most {most:.0f}",
            f"{milliseconds(statistics.median(health))}, longest {milliseconds(health[-1])}",
            f"{found.files[0]}, {found.files[1]}",
        ]],
    )  # fmt: skip
    faults = sum(count for status, count in found.statuses.items() if status >= 500)
    report.check(f"{faults} answers of 5xx", not faults)
    report.check(f"{found.whole} streams are what they are alone, {found.left} that were left its beginnings, "
                 f"{len(found.wrong)} things wrong {found.wrong[:1] or ''}", not found.wrong)  # fmt: skip
    report.check(
        f"memory at rest is flat: {before:.0f} MiB after a fifth of the time, {after - before:+.1f} at its end",
        after - before <= SLOPE * given.minutes,
    )
    report.check(
        f"/health within {HEALTH_S} s: {len(health)} times, longest {health[-1]:.3f} s", health[-1] <= HEALTH_S
    )
    report.check(f"open files: {found.files[0]} before, {found.files[1]} after",
                 found.files[1] <= found.files[0] + _FILES)  # fmt: skip


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--model", default="braid-6m", help="a preset whose weights are here")
    parser.add_argument("--quantize", help="the server's")
    parser.add_argument("--cache-memory", default="64MiB", help="the server's, for states of earlier texts")
    parser.add_argument("--minutes", type=float, default=5.0, help="of load")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--longest", type=int, default=400, help="words of the longest prompt")
    parser.add_argument("--answer", type=int, default=40, help="tokens of the longest answer")
    parser.add_argument("--threads", type=int, help="of the server")
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
