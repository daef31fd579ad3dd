"""A browser, and what a person does on the page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")

expect.set_options(timeout=30_000)  # a busy machine is no fault


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for the time of a `with` block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def move_to_huge_pages(page: Page, **values: str) -> None:
    """Opens the settings and fills them in, by id with _ for -."""
    if page.locator("#settings").get_attribute("open") is None:
        page.locator("#settings summary").click()
    for name, value in values.items():
        field = page.locator(f"#{name.replace('_', '-')}")
        field.fill(value)
        field.blur()


def ask(page: Page, text: str) -> None:
    """Says something, and does not wait."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def say(page: Page, text: str) -> Locator:
    """Says something and waits for the end of the answer, which is returned."""
    ask(page, text)
    return answered(page)


def answered(page: Page) -> Locator:
    """The last answer, when it is whole: until then there is no button that has it written again."""
    expect(page.get_by_role("button", name="Write this answer again")).to_be_attached(timeout=60_000)
    return page.locator(".message.assistant .text").last
