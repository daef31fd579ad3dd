"""Conversations on the page: a server that dies, metrics of each, times in the list, settings, none empty."""

import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from .browsing import answered, ask, chromium, move_to_huge_pages, needs_chromium, say
from .conftest import MODEL, Server, Start

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser in Rome, which must not fail in a way that its script does not know."""
    failed: list[str] = []
    context = browser.new_context(viewport={"width": 1200, "height": 900}, timezone_id="Europe/Rome", locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    context.close()
    assert failed == []


def visit(page: Page, server: Server, model: str = MODEL) -> None:
    page.goto(server.url)
    expect(page.locator("#model")).to_have_text(model)
    move_to_huge_pages(page, temperature="0", max_tokens="24")


def stored(server: Server) -> list[dict]:
    """All sessions of a server."""
    return server.get("/v1/sessions").json()["data"]


Revive = Callable[[], Server]


@pytest.fixture
def mortal(start: Start, chatty: Path, tmp_path: Path) -> Iterator[Revive]:
    """Starts a server, and starts it again where it was before: on the same port, with the same sessions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    servers: list[Server] = []

    def begin() -> Server:
        servers.append(start("--port", port, model=chatty, sessions=tmp_path))
        return servers[-1]

    yield begin
    for server in servers:
        server.end()


GONE = "The server cannot be reached; this page will say when it is back."
STORY = "Tell me a very long story about a fox."


def test_a_server_that_dies_in_an_answer(page: Page, mortal: Revive) -> None:
    """Oracle: what was seen before SIGKILL stays and is marked; the same question is answered after a restart."""
    server = mortal()
    visit(page, server, "chatty")
    move_to_huge_pages(page, max_tokens="3000")
    ask(page, STORY)
    growing = page.locator(".message.assistant .text").last
    expect(growing).to_have_text(re.compile(r"\w+ \w+ \w+"))
    before = growing.inner_text()
    server.end()
    expect(page.get_by_role("alert")).to_have_text(GONE)
    expect(page.locator("#model")).to_have_text("no server")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).not_to_be_visible()
    half = page.locator(".message.unfinished .text")
    assert half.inner_text().startswith(before)
    expect(page.locator(".message.unfinished .mark")).to_have_text("This answer broke off.")
    expect(page.locator(".message.user .text")).to_have_text(STORY)
    # As long as the server is away, trying again loses nothing, and what is said elsewhere goes back into the box.
    kept = half.inner_text()
    page.get_by_role("button", name="Ask for this answer again").click()
    expect(page.get_by_role("alert")).to_have_text(GONE)
    expect(half).to_have_text(kept, use_inner_text=True)
    talk = page.url
    page.keyboard.press("Alt+n")
    expect(page.locator(".message")).to_have_count(0)
    ask(page, "Hello?")
    expect(page.get_by_role("alert")).to_have_text(GONE)
    expect(page.get_by_label("Message", exact=True)).to_have_value("Hello?")
    server = mortal()
    expect(page.locator("#note")).to_have_text("The server is back.")
    expect(page.locator("#trouble")).to_have_text("")
    move_to_huge_pages(page, max_tokens="24", temperature="0")
    page.get_by_role("button", name="Send").click()
    answered(page)
    # The question itself was stored before the answer began: another window has it, and can ask for the answer.
    other = page.context.new_page()
    other.goto(talk)
    expect(other.locator(".message.user .text")).to_have_text(STORY)
    expect(other.get_by_role("button", name="Have this message answered")).to_be_attached()
    other.close()
    page.get_by_role("button", name=f"Open {STORY}").click()
    expect(half).to_have_text(kept, use_inner_text=True)
    page.get_by_role("button", name="Ask for this answer again").click()
    assert answered(page).inner_text()
    expect(page.locator(".unfinished")).to_have_count(0)
    messages = server.get(f"/v1/sessions/{talk.split('#')[1]}").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert sorted(session["title"] for session in stored(server)) == ["Hello?", STORY]


@pytest.mark.parametrize("first", [True, False])
def test_a_stream_that_ends_too_early(page: Page, server: Server, first: bool) -> None:
    """Oracle: the API's own end of a stream: without [DONE] an answer is not whole, though its connection closed well.

    The part is discarded once, and kept once, as what the conversation goes on from.
    """
    visit(page, server)
    before = 0 if first else 2
    if not first:
        say(page, "Hi")
    part = 'data: {"choices": [{"index": 0, "delta": {"content": "Half **an"}}]}\n\n'
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=200, content_type="text/event-stream", body=part
    ))  # fmt: skip
    ask(page, "Hello?")
    expect(page.locator(".message.unfinished .text")).to_have_text("Half **an")
    page.unroute("**/v1/chat/completions")
    say(page, "And then?")
    messages = server.get(f"/v1/sessions/{page.url.split('#')[1]}").json()["messages"]
    assert [message["content"] for message in messages[before:-1]] == ["Hello?", "Half **an", "And then?"]
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=200, content_type="text/event-stream", body=part
    ))  # fmt: skip
    page.get_by_role("button", name="Write this answer again").click()
    expect(page.locator(".message.unfinished .text")).to_have_text("Half **an")
    page.get_by_role("button", name="Discard this part").click()
    expect(page.locator(".message.assistant .text").last).not_to_have_text("Half **an")
    expect(page.locator(".message")).to_have_count(before + 4)


def test_metrics_are_those_of_the_conversation(page: Page, server: Server) -> None:
    """Oracle: what was shown after each conversation's own answer; none for one that was not answered here."""
    visit(page, server)
    title = "What is the capital of France?"
    say(page, title)
    first = page.locator("#answer-metrics").inner_text()
    assert re.search(r"Ended\s+at its end", first)
    page.keyboard.press("Alt+n")
    expect(page.locator("#metrics")).not_to_be_visible()
    move_to_huge_pages(page, max_tokens="5")
    say(page, "Count from one to a hundred, with words in between.")
    second = page.locator("#answer-metrics").inner_text()
    assert re.search(r"Ended\s+at the limit of tokens", second)
    page.get_by_role("button", name=f"Open {title}").first.click()
    expect(page.locator("#answer-metrics")).to_have_text(re.compile("at its end"))
    assert page.locator("#answer-metrics").inner_text() == first
    page.reload()
    expect(page.locator("#own-bytes")).to_have_text(re.compile(r"MiB|KiB"))
    expect(page.locator("#answer-metrics")).not_to_be_visible()


def test_metrics_of_an_answer_that_was_left(page: Page, server: Server) -> None:
    """Oracle: the metrics of the conversation that was opened meanwhile: it has no answer of this page's."""
    visit(page, server)
    made = server.post("/v1/sessions", {"messages": [{"role": "user", "content": "Aside"}]}).json()
    page.reload()
    move_to_huge_pages(page, max_tokens="3000")
    ask(page, STORY)
    expect(page.locator("#answer-metrics")).to_be_visible()
    page.get_by_role("button", name="Open Aside").first.click()
    expect(page.locator(".message.user .text")).to_have_text("Aside")
    expect(page.locator("#answer-metrics")).not_to_be_visible()
    assert page.url.endswith(made["id"])


def test_no_conversation_is_empty(page: Page, start: Start, chatty: Path, tmp_path: Path) -> None:
    """Oracle: the server's list: nothing is in it that was refused, stopped at once, or only looked at."""
    server = start(model=chatty, sessions=tmp_path)
    visit(page, server, "chatty")
    page.get_by_role("button", name="New", exact=True).click()
    page.keyboard.press("Alt+n")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=429, json={"error": {"message": "try again later"}}
    ))  # fmt: skip
    ask(page, "Refused")
    expect(page.get_by_role("alert")).to_have_text("try again later")
    expect(page.get_by_label("Message", exact=True)).to_have_value("Refused")
    assert stored(server) == []
    page.unroute("**/v1/chat/completions")
    held: list = []
    page.route("**/v1/chat/completions", lambda route: held.append(route))  # an answer that does not begin
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.wait_for_url("**/#*")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Message", exact=True)).to_have_value("Refused")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator("#sessions li")).to_have_count(0)
    assert stored(server) == []


def test_times_in_the_list(page: Page, server: Server) -> None:
    """Oracle: the calendar: the time in Rome for today, the weekday within a week, then the date, with a past year."""
    made = server.post("/v1/sessions", {"messages": [{"role": "user", "content": "When?"}]}).json()
    at = datetime.fromtimestamp(made["updated"], UTC)
    visit(page, server)
    row = page.locator("#sessions li").filter(has_text="When?").first.locator("time")
    then = page.evaluate("(s) => new Date(s * 1000).toLocaleTimeString('en-GB').slice(0, 5)", made["updated"])
    expect(row).to_have_text(then)
    shown = datetime.fromisoformat(row.get_attribute("datetime") or "")
    assert abs((shown - at).total_seconds()) < 0.01
    day = page.evaluate("(s) => new Date(s * 1000).getDate()", made["updated"])
    for days, pattern in (
        (3, "^[A-Z][a-z]{2}$"),
        (40, rf"^{day} [A-Z][a-z]+( \d{{4}})?$"),
        (400, rf"^{day} \w+ {at.year}$"),
    ):
        page.clock.set_fixed_time(at + timedelta(days=days))
        page.reload()
        expect(row).to_have_text(re.compile(pattern))


def test_settings_are_sent_and_kept(page: Page, server: Server) -> None:
    """Oracle: the body of the request; the same seed's same answer; a stop text; the fields after a reload."""
    visit(page, server)
    move_to_huge_pages(page, temperature="1.3", top_p="0.9", max_tokens="20", seed="7", stops="###\nEND OF IT")
    bodies: list[dict] = []
    page.on("request", lambda r: bodies.append(r.post_data_json) if r.url.endswith("completions") else None)
    first = say(page, "Write a sentence.").inner_text()
    page.get_by_role("button", name="Write this answer again").click()
    assert answered(page).inner_text() == first
    chosen = {"temperature": 1.3, "top_p": 0.9, "max_tokens": 20, "seed": 7, "stop": ["###", "END OF IT"]}
    for body in bodies:
        assert {key: body[key] for key in chosen} == chosen
    page.reload()
    move_to_huge_pages(page, temperature="0", top_p="", seed="", stops="Par")
    expect(page.locator("#max-tokens")).to_have_value("20")
    page.keyboard.press("Alt+n")
    expect(say(page, "What is the capital of France?")).to_have_text("The capital of France is")
    assert not {"top_p", "seed"} & set(bodies[-1])
    page.reload()
    expect(page.locator("#stops")).to_have_value("Par")
    expect(page.locator("#top-p")).to_have_value("")


def test_a_setting_that_cannot_be(page: Page, server: Server) -> None:
    """Oracle: nothing is asked for; the setting has the focus, the message is still there."""
    visit(page, server)
    count = len(stored(server))
    for name, value in {"top-p": "1.5", "temperature": "-1", "max-tokens": "2.5", "seed": "-3"}.items():
        before = page.locator(f"#{name}").input_value()
        move_to_huge_pages(page, **{name: value})
        page.locator("#settings summary").click()
        ask(page, "Hello")
        expect(page.locator(f"#{name}")).to_be_focused()
        expect(page.get_by_label("Message", exact=True)).to_have_value("Hello")
        move_to_huge_pages(page, **{name: before})
    expect(page.locator(".message")).to_have_count(0)
    assert len(stored(server)) == count


def test_answers_are_rendered_as_they_grow(page: Page, server: Server) -> None:
    """Oracle: the same answer's elements after a reload, from the stored message; the question stays plain text."""
    visit(page, server)
    move_to_huge_pages(page, max_tokens="120")
    said = "Write a Python function that adds two numbers. Use a **code block**."
    say(page, said)
    expect(page.locator(".message.user .text")).to_have_text(said)
    code = page.locator(".message.assistant .code code").first
    expect(code).to_contain_text("def ")
    expect(page.locator(".message.assistant .bar span").first).to_have_text("python")
    whole = page.locator(".message.assistant .text").inner_html()
    page.reload()
    expect(code).to_contain_text("def ")
    assert page.locator(".message.assistant .text").inner_html() == whole
