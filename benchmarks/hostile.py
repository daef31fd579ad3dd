"""Hostile requests at a running server, with `/health` asked beside them and two streams that run on.

    python -m benchmarks.hostile --model smollm2-135m

`braid serve` runs as a process of its own. Each case is sent while `/health` is asked every 20 ms and two clients read
answers as they are written. Of each case the table has what the server answered, the seconds that it took, the longest
time in which `/health` was silent, the longest gap between two tokens of a stream, and the server's memory: the peak by
then. What must hold: every case ends in a refusal, a time-out or one success of a race, nothing in a 5xx; the server
lives; `/health` answers within 0.2 s. On a machine that others use, the figures are those of the machine too.
"""

import argparse
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import report
from .report import Report
from .serving import Server, serving

SILENCE_S = 0.2
_POLL_S = 0.02
_TIMEOUT_S = 120
_STREAMS = 2
_JSON = {"Content-Type": "application/json"}
_SETTLE_S, _NOTHING_S = 0.3, 5

Told = tuple[str, str]  # a status and a sentence, or of several answers how often each status came


def ask(server: Server, path: str, body: object, headers: dict[str, str] = _JSON) -> Told:
    """Status and the beginning of what was answered to a body, which is sent as JSON unless it is bytes."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=_TIMEOUT_S)
    try:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, sent, headers)
        reply = connection.getresponse()
        told = json.loads(reply.read() or b"{}")
        return str(reply.status), str(told.get("error", {}).get("message", "ok"))
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, str(error)
    finally:
        connection.close()


def chat(server: Server, content: str, **more: Any) -> Told:
    """The answer to one message."""
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 4, "temperature": 0, **more}
    return ask(server, "/v1/chat/completions", body)


def chain(length: int, link: Callable[[str], object]) -> dict[str, Any]:
    """A schema whose definitions name each other in a row."""
    names = {f"d{i}": link(f"#/$defs/d{i + 1}") for i in range(length)}
    return {"$defs": {**names, f"d{length}": {}}, "$ref": "#/$defs/d0"}


def schema_chain(server: Server) -> Told:
    """A thousand definitions, each of which has the next one in it."""
    schema = chain(1000, lambda next_one: {"properties": {"x": {"$ref": next_one}}, "required": ["x"]})
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return chat(server, "hi", response_format=form)


def schema_tools(server: Server) -> Told:
    """The same as the parameters of a tool that must be called."""
    parameters = chain(3000, lambda next_one: {"$ref": next_one})
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    return chat(server, "hi", tools=[tool], tool_choice="required")


def new_schemas(server: Server) -> Told:
    """Eight rules that nobody has asked for before, at once."""
    rules = [{"type": "object", "properties": {f"p{i}": {"type": "string"}}, "required": [f"p{i}"]} for i in range(8)]
    forms = [{"type": "json_schema", "json_schema": {"name": "a", "schema": rule}} for rule in rules]
    return together([partial(chat, server, "hi", response_format=form) for form in forms])


def long_body(server: Server) -> Told:
    """A message of 8 MB."""
    return chat(server, "ab cd " * 1_300_000)


def long_text(server: Server) -> Told:
    """A message of a million bytes, four times at once: fewer than a body may have."""
    return together([lambda: chat(server, "ab cd " * 160_000)] * 4)


def many_messages(server: Server) -> Told:
    """Two thousand messages."""
    return ask(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}] * 2000})


def wrong_messages(server: Server) -> Told:
    """As many wrong values as a body has room for."""
    return ask(server, "/v1/chat/completions", b'{"messages": [' + b"1," * 400_000 + b"1]}")


def deep_body(server: Server) -> Told:
    """Brackets within brackets."""
    return ask(server, "/v1/chat/completions", b"[" * 900_000)


def header(server: Server) -> Told:
    """A header line of 40 MB."""
    return sent_raw(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", *[b"a" * 1_000_000] * 40)


def many_headers(server: Server) -> Told:
    """Sixty thousand header fields."""
    return sent_raw(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"a:b\r\n" * 60_000, b"\r\n")


def small_chunks(server: Server) -> Told:
    """A body in pieces of one byte."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return sent_raw(server, head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 400_000)


def half_bodies(server: Server, number: int = 300) -> Told:
    """Bodies that never end."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return held(server, number, head + b"Content-Length: 1000\r\n\r\n{")


def silent_connections(server: Server) -> Told:
    """Twice as many connections as there may be, which say nothing."""
    return held(server, 1000, b"")


def embeddings(server: Server) -> Told:
    """Three thousand inputs."""
    return ask(server, "/v1/embeddings", {"input": ["a"] * 3000})


def form(server: Server) -> Told:
    """What curl sends where it is not told of JSON."""
    return ask(server, "/v1/completions", b'{"prompt": "a"}', {"Content-Type": "application/x-www-form-urlencoded"})


def session_race(server: Server) -> Told:
    """Sixteen creations of one session at once."""
    name = f"race-{time.time_ns()}"
    said = [{"id": name, "messages": [{"role": "user", "content": str(i)}]} for i in range(16)]
    return together([partial(ask, server, "/v1/sessions", body) for body in said])


def fork_race(server: Server) -> Told:
    """Sixteen forks of one session to one name at once."""
    name = f"fork-{time.time_ns()}"
    ask(server, "/v1/sessions", {"id": name, "messages": [{"role": "user", "content": "a"}]})
    return together([lambda: ask(server, f"/v1/sessions/{name}/fork", {"id": f"{name}-new"})] * 16)


CASES = (
    schema_chain, schema_tools, new_schemas, long_body, long_text, many_messages, wrong_messages, deep_body, header,
    many_headers, small_chunks, half_bodies, silent_connections, embeddings, form, session_race, fork_race,
)  # fmt: skip
RACES = ("session_race", "fork_race")


def together(work: list[Callable[[], Told]]) -> Told:
    """Each in a thread of its own: how often each status came, and one of the sentences."""
    with ThreadPoolExecutor(len(work)) as pool:
        answers = [done.result() for done in [pool.submit(one) for one in work]]
    counts = Counter(status for status, _ in answers)
    return ", ".join(f"{number} x {status}" for status, number in sorted(counts.items())), max(answers)[1]


def connected(server: Server) -> socket.socket:
    """A connection on which nothing was said."""
    place = urlsplit(server.url)
    return socket.create_connection((place.hostname, place.port), timeout=_TIMEOUT_S)


def sent_raw(server: Server, *pieces: bytes) -> Told:
    """What is answered to bytes, or that the connection was closed before all were sent."""
    with connected(server) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass
        return answer_on(connection)


def held(server: Server, number: int, begin: bytes) -> Told:
    """How connections end on which no more than a beginning is said."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(server)) for _ in range(number)]
        for connection in connections:
            connection.sendall(begin)
        answers = [answer_on(connection) for connection in connections]
    counts = Counter(status for status, _ in answers)
    return ", ".join(f"{number} x {status}" for status, number in sorted(counts.items())), max(answers)[1]


def answer_on(connection: socket.socket) -> Told:
    """Status and sentence of what comes on a connection."""
    try:
        got = connection.recv(1 << 16)
    except OSError:
        return "closed", ""
    if not got:
        return "closed", ""
    body = got.partition(b"\r\n\r\n")[2]
    return got.split()[1].decode(), json.loads(body)["error"]["message"] if body.startswith(b"{") else ""


class Watch:
    """Asks `/health` again and again, and reads streams, in threads of their own: the longest silence of each."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self.silence = self.gap = 0.0
        self.tokens = 0
        self._since = 0.0
        self._last = [0.0] * _STREAMS  # when the last token of each stream came
        self.faults: list[str] = []
        self._threads = [threading.Thread(target=self._ask)]
        self._threads += [threading.Thread(target=self._read, args=(i,)) for i in range(_STREAMS)]

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        while self.tokens < 2 * _STREAMS:
            time.sleep(_POLL_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def begin(self) -> None:
        """Forgets what was seen before."""
        self._since = time.perf_counter()
        self.silence = self.gap = 0.0
        self.faults.clear()

    def end(self) -> None:
        """Counts streams that still wait for a token."""
        for number in range(_STREAMS):
            self._note(number)

    def _note(self, number: int) -> None:
        now = time.perf_counter()
        self.gap = max(self.gap, now - max(self._last[number], self._since))
        self._last[number] = now

    def _ask(self) -> None:
        place = urlsplit(self._server.url).netloc
        while not self._over.wait(_POLL_S):
            begun = time.perf_counter()
            try:
                connection = http.client.HTTPConnection(place, timeout=_TIMEOUT_S)
                connection.request("GET", "/health")
                status = connection.getresponse().status
                connection.close()
                if status != 200:
                    self.faults.append(f"/health answered {status}")
            except OSError as error:
                self.faults.append(f"/health: {error}")
            self.silence = max(self.silence, time.perf_counter() - begun)

    def _read(self, number: int) -> None:
        while not self._over.is_set():
            try:
                self._read_one(number)
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(f"a stream: {error}")

    def _read_one(self, number: int) -> None:
        connection = http.client.HTTPConnection(urlsplit(self._server.url).netloc, timeout=_TIMEOUT_S)
        body = {"prompt": "Once upon a time", "max_tokens": 500, "seed": number, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(body).encode(), _JSON)
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                self.tokens += 1
                self._note(number)
            if self._over.is_set():
                break
        connection.close()


def memory(server: Server) -> tuple[int, int]:
    """Mebibytes of the server's memory: now, and at most so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = dict(line.split(":", 1) for line in status.splitlines())
    return int(found["VmRSS"].split()[0]) >> 10, int(found["VmHWM"].split()[0]) >> 10


def fine(name: str, status: str) -> bool:
    """Whether a case ended as it must: refused, and of a race one succeeded."""
    if name in RACES:
        return status == "1 x 201, 15 x 409"
    if name == "new_schemas":
        return "50" not in status
    return "200" not in status and "500" not in status


def measure(given: argparse.Namespace, report: Report) -> None:
    """All cases, one after the other."""
    rows = []
    with serving(given.model, "--threads", str(given.threads)) as server, Watch(server) as watch:
        begun, _ = memory(server)
        watch.begin()
        time.sleep(_NOTHING_S)
        watch.end()
        rows.append(["nothing", "", f"{_NOTHING_S} s", *figures(watch, server)])
        for case in CASES:
            name = case.__name__
            if given.only and name not in given.only:
                continue
            watch.begin()
            start = time.perf_counter()
            status, sentence = case(server)
            seconds = time.perf_counter() - start
            time.sleep(_SETTLE_S)
            watch.end()
            rows.append([name, status, f"{seconds:.2f} s", *figures(watch, server)])
            report.found[name] = {
                "status": status, "sentence": sentence, "seconds": seconds, "silence": watch.silence, "gap": watch.gap,
                "memory": memory(server),
            }  # fmt: skip
            report.say(f"{name}: {status}: {sentence[:160]} {watch.faults[:2] or ''}")
            report.check(f"{name} ends as it must", fine(name, status) and not watch.faults)
            report.check(f"{name} leaves /health answering within {SILENCE_S} s", watch.silence <= SILENCE_S)
            report.check(f"{name} leaves the server running", server.process.poll() is None)
        report.say(f"memory before the first case: {begun} MiB")
    heads = ["case", "answer", "time", "longest silence of /health", "longest gap of a stream", "memory (peak), MiB"]
    report.table(heads, rows)


def figures(watch: Watch, server: Server) -> list[str]:
    """What was seen beside a case, for the table."""
    now, peak = memory(server)
    return [f"{1000 * watch.silence:.0f} ms", f"{1000 * watch.gap:.0f} ms", f"{now} ({peak})"]


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of cases")
    report.run(measure, parser)


if __name__ == "__main__":
    main()
