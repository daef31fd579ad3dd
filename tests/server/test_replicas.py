"""Two replicas behind one server, on a Ray of their own: what clients see, and who answers them."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import openai
import pytest
from benchmarks.serving import BRAID, Server

from braidlm.server import ModelHost, Settings, create_app
from tests.cli.commands import Ended, entry

from .conftest import MODEL, Start
from .local import model
from .turns import GREEDY, content, cost, said, turn

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray (the extra `ray`)")
# Letters and nothing else, so that no answer ends by itself.
LONG = {"stream": True, "max_tokens": 150, "response_format": {"type": "regex", "regex": "[a-z]{9000}"}}
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def two(start: Start) -> Server:
    return start("--replicas", "2")


def metrics(server: Server, name: str, **labels: str) -> dict[str, float]:
    """A metric of each replica, summed over its other labels."""
    found: dict[str, float] = {}
    for line in server.get("/metrics").text.splitlines():
        if (match := re.fullmatch(rf"{name}{{(.*)}} (\S+)", line)) and 'replica="' in match[1]:
            own = dict(re.findall(r'(\w+)="([^"]*)"', match[1]))
            if labels.items() <= own.items():
                found[own["replica"]] = found.get(own["replica"], 0) + float(match[2])
    return found


def read(server: Server) -> dict[str, float]:
    return metrics(server, "braidlm_prompt_tokens_total")


def reader(before: dict[str, float], after: dict[str, float]) -> str:
    """Which replica alone has read a prompt in between."""
    (name,) = [name for name in after if after[name] != before.get(name, 0)]
    return name


def processes(server: Server) -> dict[int, tuple[int, str]]:
    """When each process below a server began, and how it is called."""
    parents, found = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = re.fullmatch(r"\d+ \((.*)\) (.*)\n", stat.read_text()).groups()
        except (OSError, AttributeError):
            continue
        parents[int(stat.parent.name)] = int(rest.split()[1])
        found[int(stat.parent.name)] = int(rest.split()[19]), name

    def below(pid: int) -> bool:
        return pid == server.process.pid or (pid in parents and below(parents[pid]))

    return {pid: what for pid, what in found.items() if below(pid)}


def cluster_of(server: Server) -> tuple[str, dict[str, str]]:
    """Address of the cluster that a server has started, and the environment of a process that may join it."""
    (raylet,) = (pid for pid, (_, name) in processes(server).items() if name == "raylet")
    words = Path(f"/proc/{raylet}/cmdline").read_text().split("\0")
    (address,) = (word.removeprefix("--gcs-address=") for word in words if word.startswith("--gcs-address="))
    lines = Path(f"/proc/{raylet}/environ").read_text().split("\0")
    return address, dict(line.split("=", 1) for line in lines if "=" in line)


def assert_one_sentence(done: "Ended | subprocess.CompletedProcess[str]", told: str) -> None:
    assert done.returncode == 2, done.stderr
    *before, last = done.stderr.splitlines()
    assert last.startswith("braid: ") and told in last
    assert all(line.startswith("listening on ") for line in before)


def pid_of(server: Server, replica: str) -> int:
    begun = metrics(server, "process_start_time_seconds")
    pids = sorted((when, pid) for pid, (when, name) in processes(server).items() if name.startswith("ray::ServeRepl"))
    return pids[sorted(begun, key=begun.__getitem__).index(replica)][1]


@needs_ray
def test_the_same_api(two: Server) -> None:
    """Oracle: the application without replicas: its document, its errors, its headers; and the official client."""
    plain = create_app(ModelHost(model, Settings(name=MODEL)))
    assert two.get("/openapi.json").json() == plain.openapi()
    assert [found.id for found in two.client.models.list()] == [MODEL]
    reply = two.client.chat.completions.create(
        model=MODEL, messages=said("What is the capital of France?"), temperature=0, max_tokens=20
    )
    assert reply.choices[0].message.content == "The capital of France is Paris."
    stream = two.client.chat.completions.create(
        model=MODEL, messages=said("What is the capital of France?"), temperature=0, max_tokens=20, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "The capital of France is Paris."
    assert len(chunks) > 5
    assert chunks[-1].usage.prompt_tokens == reply.usage.prompt_tokens
    assert len(two.client.embeddings.create(model=MODEL, input="a").data[0].embedding) == 576
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        two.client.chat.completions.create(model="gpt", messages=said("a"))
    refused = two.post("/v1/chat/completions", {"messages": said("a"), "frequency": 1})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == ("the field 'frequency' is unknown; did you mean 'frequency_penalty'?")
    assert refused.headers["x-request-id"].startswith("req_")
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert two.get("/nowhere").json()["error"]["type"] == "not_found_error"
    assert httpx2.delete(f"{two.url}/v1/chat/completions").status_code == 405
    assert two.get("/").headers["content-type"].startswith("text/html")
    assert two.get("/health").json() == {"status": "ok"}
    assert two.get("/info").json()["replicas"] == 2
    logged = [json.loads(line) for line in two.log.read_text().splitlines() if line.startswith("{")]
    (line,) = [line for line in logged if line["request"] == refused.headers["x-request-id"]]
    assert line["path"] == "/v1/chat/completions" and line["status"] == 400
    assert any(line.get("generated_tokens") == reply.usage.completion_tokens for line in logged)


@needs_ray
def test_a_session_stays_where_its_states_are(two: Server) -> None:
    """Oracle: each replica's own count of what it has read; from turn 2 on only what is new is computed."""
    homes: dict[str, str] = {}
    while len(homes) < 3 or set(homes.values()) != {"0", "1"}:  # by chance, each time with a half's probability
        name = f"session-{len(homes)}"
        assert two.post("/v1/sessions", {"id": name}).status_code == 201
        before = read(two)
        turn(two, name, f"Hello {name}.")
        homes[name] = reader(before, read(two))
    for text in ("And then?", "Why?"):
        for name, home in homes.items():
            before, tokens = read(two), two.get(f"/v1/sessions/{name}").json()["tokens"]
            cached, recomputed, computed = cost(turn(two, name, text))
            assert (cached, recomputed) == (tokens - 1, 0) and computed < 30
            assert reader(before, read(two)) == home
    assert {item["id"] for item in two.get("/v1/sessions").json()["data"]} == set(homes)
    for name in homes:
        assert two.post(f"/v1/sessions/{name}/fork", {"id": f"{name}-branch"}).json()["messages"] == 6
        assert cost(turn(two, f"{name}-branch", "Go on."))[1] == 0  # wherever its home is
        assert httpx2.delete(f"{two.url}/v1/sessions/{name}").json()["deleted"] is True
    assert {item["id"] for item in two.get("/v1/sessions").json()["data"]} == {f"{name}-branch" for name in homes}


@needs_ray
def test_texts_go_to_who_read_their_beginning(two: Server) -> None:
    """Oracle: what is cached of a chat that goes on; new chats are answered by one and the other."""
    readers = set()
    for topic in ("rivers", "mountains"):
        messages = said(f"Tell me about {topic}.")
        before = read(two)
        first = two.post("/v1/chat/completions", {**GREEDY, "messages": messages}).json()
        readers.add(chosen := reader(before, read(two)))
        messages += [{"role": "assistant", "content": content(first)}, *said("Go on.")]
        before = read(two)
        more = two.post("/v1/chat/completions", {**GREEDY, "messages": messages}).json()
        assert reader(before, read(two)) == chosen
        assert cost(more)[0] >= first["usage"]["prompt_tokens"]
    assert readers == {"0", "1"}


@needs_ray
def test_many_at_once(two: Server) -> None:
    """Oracle: the rule: whoever has fewer requests gets the next one, so that each replica writes its half."""
    before = metrics(two, "braidlm_generated_tokens_total")
    body = {"temperature": 0, "max_tokens": 4, "response_format": LONG["response_format"]}
    replies: list[httpx2.Response] = []

    def ask(number: int) -> None:
        replies.append(two.post("/v1/chat/completions", {**body, "messages": said(f"{number} is a number.")}))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status_code for reply in replies] == [200] * 16
    after = metrics(two, "braidlm_generated_tokens_total")
    assert sum(after.values()) - sum(before.values()) == 64
    assert all(after[name] - before[name] >= 16 for name in after)


def streaming(server: Server, session: str) -> tuple[threading.Thread, list[str]]:
    """A turn in the background that takes long, and the lines of it; returns once it has begun."""
    lines: list[str] = []
    begun = threading.Event()
    body = {**LONG, "session": session, "messages": said("Tell me everything.")}

    def run() -> None:
        with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                if len(lines) > 12:
                    begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    return thread, lines


@needs_ray
def test_a_client_that_leaves(two: Server) -> None:
    """Oracle: the engines' loads; what was written is in the session."""
    two.post("/v1/sessions", {"id": "left"})
    body = {**LONG, "session": "left", "messages": said("Tell me everything.")}
    with httpx2.stream("POST", f"{two.url}/v1/chat/completions", json=body, timeout=60) as stream:
        lines = stream.iter_lines()
        for _ in range(8):
            next(lines)
        assert two.get("/v1/sessions/left").status_code == 409
        assert sum(metrics(two, "braidlm_engine_decode").values()) == 1
    while (found := two.get("/v1/sessions/left")).status_code == 409:
        time.sleep(0.05)
    assert sum(metrics(two, "braidlm_engine_decode").values()) == 0
    assert [message["role"] for message in found.json()["messages"]] == ["user", "assistant"]
    assert len(found.json()["messages"][1]["content"]) > 0
    assert found.json()["tokens"] < 150


@needs_ray
def test_nobody_else_can_reach_it(two: Server) -> None:
    """Oracle: the kernel's list of the sockets that the server and all below it listen on."""
    inodes = {
        os.readlink(link) for pid in processes(two) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()
    }
    found = []
    for line in (Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()).splitlines():
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            found.append(fields[1].split(":")[0])
    assert len(found) > 5
    assert set(found) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@needs_ray
def test_a_replica_that_dies(two: Server) -> None:
    """Oracle: its client is told; the session goes on elsewhere, from its file; in the end there are two again."""
    two.post("/v1/sessions", {"id": "kept"})
    before = read(two)
    turn(two, "kept", "What is the capital of France?")
    home = reader(before, read(two))
    tokens = two.get("/v1/sessions/kept").json()["tokens"]
    thread, lines = streaming(two, "kept")
    os.kill(pid_of(two, home), signal.SIGKILL)
    thread.join()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert events[-1]["error"]["code"] == "replica_died" and events[-1]["error"]["type"] == "server_error"
    assert "data: [DONE]" not in lines
    cached, recomputed, _ = cost(turn(two, "kept", "And of Italy?"))
    assert (cached, recomputed) == (tokens - 1, 0)
    assert two.get("/ready").status_code == 200
    while len(metrics(two, "process_start_time_seconds")) < 2:
        time.sleep(0.2)
    cached, recomputed, _ = cost(turn(two, "kept", "And of Spain?"))
    assert recomputed == 0 and cached > tokens


@needs_ray
def test_weights_that_cannot_be_loaded(two: Server, small: Path, tmp_path: Path) -> None:
    """Oracle: one sentence and exit code 2, as without replicas; another server of the same cluster goes on."""
    damaged = shutil.copytree(small, tmp_path / "damaged")
    (weights,) = damaged.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    address, environment = cluster_of(two)
    options = ["--port", "0", "--replicas", "2", "--ray-address", address]
    command = [sys.executable, "-c", BRAID, "serve", str(damaged), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100, env=environment)
    assert_one_sentence(done, str(weights))
    assert two.get("/ready").status_code == 200


@needs_ray
def test_asked_to_stop(two: Server) -> None:
    """Oracle: an answer that was being written is finished and stored; nothing is left of the server."""
    two.post("/v1/sessions", {"id": "last"})
    thread, lines = streaming(two, "last")
    below = processes(two)
    two.process.send_signal(signal.SIGTERM)
    thread.join()
    assert two.process.wait(60) == 0, two.log.read_text()
    assert lines[-2] == "data: [DONE]"
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        time.sleep(0.1)


@needs_ray
def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    """Oracle: one sentence and exit code 2, as without replicas."""
    options = ["--port", "0", "--replicas", "2", "--ray-address", "127.0.0.1:9"]
    command = [sys.executable, "-c", BRAID, "serve", MODEL, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert_one_sentence(done, "cannot join the Ray cluster at 127.0.0.1:9: ")


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (MODEL, [], "the package ray; pip install '.[ray]'"),
        ("no-such-model", [], "no-such-model is neither a file or directory here, nor a preset"),
        (MODEL, ["--quantize", "int3"], "quantize is 'int3', but must be one of"),
        (MODEL, ["--dtype", "float31"], "dtype is 'float31', but must be one of"),
        (MODEL, ["--ops", "fast"], "ops is 'fast', but must be one of"),
        (MODEL, ["--adapter", "a=nowhere"], "nowhere is no adapter"),
        (MODEL, ["--initial-state", "a=nowhere"], "there is no initial state "),
    ],
)
def test_before_ray_starts(
    tmp_path: Path, name: str, options: list[str], told: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Oracle: one sentence and exit code 2; without the package, only what is told before Ray starts can be told."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setitem(sys.modules, "ray", None)
    done = entry(capfd, "serve", name, "--port", "0", "--replicas", "2", "--sessions", str(tmp_path), *options)
    assert_one_sentence(done, told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--ray-address", "127.0.0.1:6379"], "say how many with --replicas"),
        (["--replicas", "0"], "greater than or equal to 1"),
    ],
)
def test_wrong_input(options: list[str], told: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: one sentence that says what would be right, and exit code 2."""
    done = entry(capfd, "serve", MODEL, *options)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
