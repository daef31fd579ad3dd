"""The page in a real browser, before a real server on real weights."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.text.made import TEMPLATE

from .browsing import answered, chromium, needs_chromium, say
from .conftest import Server, Start
from .local import Local, model, serving

pytestmark = needs_chromium

# What browsers tell of answers that the page knows how to take.
EXPECTED = {
    f"Failed to load resource: the server responded with a status of {status}"
    for status in ("409 (Conflict)", "429 (Too Many Requests)", "503 (Service Unavailable)")
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page of one test, with answers that do not depend on chance; nothing may be said on its console."""
    said: list[str] = []
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("console", lambda message: said.append(message.text) if message.text not in EXPECTED else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(server.url)
    expect(page.locator("#model")).to_have_text("smollm2-135m")
    page.locator("#settings summary").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Tokens of an answer").fill("24")
    page.get_by_label("Tokens of an answer").blur()
    yield page
    context.close()
    assert said == []


def test_talk(page: Page, server: Server) -> None:
    """Oracle: geography; the metrics of the server's own usage; the session that it stores; a reload."""
    expect(page.get_by_text("Say something.")).to_be_visible()
    expect(say(page, "What is the capital of France?")).to_have_text("The capital of France is Paris.")
    expect(say(page, "And of Italy?")).to_contain_text("Rome")
    expect(page.locator("#prompt")).to_have_text(re.compile(r"^[1-9]\d* cached, 0 recomputed, \d+ computed$"))
    expect(page.locator("#speed")).to_have_text(re.compile(r"^\d+\.\d tokens/s$"))
    expect(page.locator("#first")).to_have_text(re.compile(r"^\d+\.\d\d s$"))
    session = server.get(f"/v1/sessions/{page.url.split('#')[1]}").json()
    assert len(session["messages"]) == 4
    # A plain transformer holds what a plain transformer holds.
    mebibytes = session["tokens"] * 46080 / 2**20
    expect(page.locator("#own-bytes")).to_have_text(f"{mebibytes:.1f} MiB")
    expect(page.locator("#other-bytes")).to_have_text(f"{mebibytes:.1f} MiB")
    page.reload()
    expect(page.locator(".message .text")).to_have_count(4)
    expect(page.get_by_role("heading", level=1)).to_have_text("What is the capital of France?")


def test_streaming_and_stop(page: Page, server: Server) -> None:
    """Oracle: the text grows before the button that stops it is pressed; what was written is stored."""
    page.get_by_label("Tokens of an answer").fill("3000")
    page.get_by_label("Temperature").fill("1")
    page.get_by_label("Message", exact=True).fill("Tell me a very long story about a fox.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    growing = page.locator(".message.assistant .text")
    expect(growing).to_have_text(re.compile(r"\w+ \w+"))
    before = growing.inner_text()
    page.wait_for_function(
        "length => document.querySelector('.assistant .text').innerText.length > length", arg=len(before)
    )
    page.keyboard.press("Escape")
    text = answered(page).inner_text()
    assert text.startswith(before)
    stored = server.get(f"/v1/sessions/{page.url.split('#')[1]}").json()["messages"][1]["content"]
    assert stored.strip() == text.strip()


def test_regenerate_edit_and_branch(page: Page) -> None:
    """Oracle: the messages that are there afterwards."""
    first = say(page, "Say one word.").inner_text()
    page.get_by_label("Temperature").fill("1.5")
    page.get_by_label("Temperature").blur()
    page.get_by_role("button", name="Write this answer again").click()
    assert answered(page).inner_text() != first
    expect(page.locator(".message")).to_have_count(2)
    say(page, "Another one.")
    # The up arrow in an empty box takes up the last message; Escape leaves it as it was.
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Message", exact=True)).to_have_value("Another one.")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Message", exact=True)).to_have_value("")
    whole = page.url
    page.get_by_role("button", name="Branch").nth(1).click()
    expect(page.locator(".message")).to_have_count(2)
    assert page.url != whole
    page.get_by_role("button", name="Edit this message").first.click()
    page.get_by_label("Message", exact=True).fill("What is the capital of Spain?")
    page.keyboard.press("Enter")
    answered(page)
    expect(page.locator(".message.user .text")).to_have_text(["What is the capital of Spain?"])
    page.goto(whole)
    expect(page.locator(".message")).to_have_count(4)


def test_sessions(page: Page) -> None:
    """Oracle: the list, by the titles of what was said first."""
    say(page, "First of two talks")
    page.keyboard.press("Alt+n")
    expect(page.locator(".message")).to_have_count(0)
    say(page, "Second of two talks")
    page.get_by_role("button", name="Open First of two talks").click()
    expect(page.locator(".message.user .text")).to_have_text("First of two talks")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete First of two talks").click()
    expect(page.get_by_role("button", name="Open First of two talks")).to_have_count(0)
    expect(page.locator(".message")).to_have_count(0)
    expect(page.get_by_role("button", name="Open Second of two talks")).to_have_count(1)


SEEN = "(e => e === document.body || getComputedStyle(e).outlineStyle !== 'none')(document.activeElement)"


def test_by_keyboard_alone(page: Page) -> None:
    """Oracle: the focus that is seen: every control is reached by Tab."""
    say(page, "Hi")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(e => e.id || e.className || e.textContent)(document.activeElement)"))
        assert page.evaluate(SEEN)
    settings = {"temperature", "top-p", "max-tokens", "seed", "stops", "system"}
    assert {"new", "name", "delete", "text", "send", "Edit", "Branch", "Copy", *settings} <= reached


def test_a_phone(page: Page) -> None:
    """Oracle: nothing is wider than the screen; the conversations are behind a button."""
    page.set_viewport_size({"width": 375, "height": 700})
    say(page, "What is " + "averyverylongword" * 8 + "?")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("#scroll").evaluate("e => e.scrollWidth <= e.clientWidth")
    expect(page.get_by_role("button", name="New", exact=True)).not_to_be_visible()
    page.get_by_role("button", name="Conversations", exact=True).click()
    expect(page.get_by_role("button", name="New", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="New", exact=True)).not_to_be_visible()


CONTRAST = """() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
    const linear = parts.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const under = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" && e.parentElement ? under(e.parentElement) : colour;
  };
  return [...document.querySelectorAll("button, .text, .text *, time, dd, dt, h1, label, summary, #model")]
    .filter((e) => e.checkVisibility())
    .map((e) => [light(getComputedStyle(e).color), light(under(e))])
    .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
}"""


def test_dark_and_light(page: Page) -> None:
    """Oracle: the contrast of 4.5 that WCAG 2.2 asks for (1.4.3), of all texts in both."""
    say(page, "Hello")
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert min(page.evaluate(CONTRAST)) >= 4.5
    assert len(grounds) == 2


def test_text_is_never_markup(page: Page) -> None:
    """Oracle: the tag is seen, and does nothing."""
    tag = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    page.on("dialog", lambda _: pytest.fail("the text was run"))
    say(page, f"{tag}\n```html\n{tag}\n```")
    assert page.locator(".message.user .text").inner_text().count(tag) == 2
    expect(page.locator(".message.user pre")).to_have_text(tag)
    page.reload()
    expect(page.locator(".message.user pre")).to_have_text(tag)


def test_a_key_is_asked_for(browser: Browser, start: Start, chatty: Path, tmp_path: Path) -> None:
    """Oracle: the page works once the right key was given."""
    server = start("--api-key", "sesame", model=chatty, sessions=tmp_path)
    page = browser.new_page()
    page.goto(server.url)
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_have_text("chatty")
    say(page, "Hi")
    page.close()


def test_what_goes_wrong_is_said(page: Page, server: Server) -> None:
    """Oracle: the server's sentence; the message can be sent again."""
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=429, json={"error": {"message": "256 requests are waiting already; try again later"}}
    ))  # fmt: skip
    page.get_by_label("Message", exact=True).fill("Are you there?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("256 requests are waiting already; try again later")
    expect(page.get_by_label("Message", exact=True)).to_have_value("Are you there?")
    page.unroute("**/v1/chat/completions")
    say(page, "Are you there?")
    expect(page.locator("#trouble")).to_have_text("")


@pytest.fixture
def thinking(tmp_path: Path) -> Iterator[Local]:
    """A server whose model of random weights begins each answer with reasoning."""
    begins = TEMPLATE.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    with serving(model(template=begins, control=("<think>", "</think>")), sessions=tmp_path) as local:
        yield local


def test_reasoning_and_calls(browser: Browser, thinking: Local) -> None:
    """Oracle: the stored messages: reasoning behind a line that opens it, arguments of calls on lines of their own."""
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": [2]}'}}
    answers = [
        {"role": "assistant", "content": None, "reasoning_content": "Sums <b>", "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "c"},
        {"role": "assistant", "content": "It is 3.", "reasoning_content": "Easy"},
    ]
    thinking.post("/v1/sessions", {"id": "sum", "messages": [{"role": "user", "content": "1 + 2?"}, *answers]})
    page = browser.new_page()
    page.goto(f"{thinking.url}/#sum")
    expect(page.locator(".call code").first).to_have_text("add")
    assert page.locator(".call pre").inner_text() == '{\n  "a": 1,\n  "b": [\n    2\n  ]\n}'
    expect(page.locator(".thought").first).not_to_be_visible()
    page.get_by_text("Reasoning").first.click()
    expect(page.locator(".thought").first).to_have_text("Sums <b>")
    expect(page.locator(".message.assistant .text").last).to_have_text("It is 3.")
    page.close()


def test_reasoning_grows(browser: Browser, thinking: Local) -> None:
    """Oracle: the stored message; reasoning is seen while it is written, and the page is the same after a reload."""
    page = browser.new_page()
    page.goto(thinking.url)
    page.locator("#settings summary").click()
    page.get_by_label("Temperature").fill("0")  # the most likely token, again and again: the tag is never closed
    page.get_by_label("Tokens of an answer").fill("3000")
    page.get_by_label("Tokens of an answer").blur()
    page.get_by_label("Message", exact=True).fill("Think.")
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant .thought")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Write this answer again")).to_be_attached()
    stored = thinking.get(f"/v1/sessions/{page.url.split('#')[1]}").json()["messages"][1]
    assert stored["reasoning_content"]
    for _ in range(2):
        expect(page.locator(".message.assistant .thought")).not_to_be_visible()
        assert page.locator(".thought").evaluate("e => e.textContent") == stored["reasoning_content"]
        page.reload()
    page.close()
