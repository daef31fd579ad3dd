"""Answers as the page shows them: Markdown as elements, hostile markup as text, code that can be copied."""

from collections.abc import Iterator
from typing import Any

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser, Page, expect

from .browsing import chromium, needs_chromium
from .local import Local, model, serving

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with serving(model(), sessions=tmp_path_factory.mktemp("sessions")) as local:
        yield local


@pytest.fixture(scope="module")
def page(browser: Browser, local: Local) -> Iterator[Page]:
    page = browser.new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(local.url)
    expect(page.locator("#model")).to_have_text("tiny")
    yield page
    page.close()


# A tree as text: kinds, what they say, where links go, how lists count; the page's own bar of a block of code left out.
OUTLINE = """
const outline = (node) => {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent.replace(/\\n$/, "");
  const kind = node.tagName.toLowerCase();
  const inside = [...node.childNodes].filter((n) => n.textContent !== "\\n" || n.nodeType !== Node.TEXT_NODE
    || !["ul", "ol", "li", "blockquote", "body"].includes(kind)).map(outline).join("");
  if (kind === "div") return node.className === "bar" ? "" : inside;
  if (kind === "p" && node.parentElement.tagName === "LI") return inside;
  const about = kind === "a" ? " " + node.getAttribute("href") : kind === "ol" ? ` ${node.start}` : "";
  return `<${kind}${about}>${inside}</${kind}>`;
};
"""
SHOWN = (
    OUTLINE
    + """
const { markdown } = await import("/page/markdown.js");
const body = document.createElement("div");
body.append(...markdown(text, growing));
return outline(body);
"""
)
EXPECTED = OUTLINE + 'return outline(new DOMParser().parseFromString(text, "text/html").body).slice(6, -7);'


def shown(page: Page, text: str, growing: bool = False) -> str:
    return page.evaluate(f"async ([text, growing]) => {{ {SHOWN} }}", [text, growing])


ANSWER = """\
# Sorting in Python

There are **two ways**, and *both* use `sorted()` or `list.sort`:

1. Use the function:
   ```python
   names = sorted(names, key=lambda x: x[1] * 2)
   # a comment, __not__ **bold**
   ```
2. Use the method

   with a second paragraph.
3. See [the manual](https://docs.python.org/3/howto/sorting.html).

## Notes

- one
- two with `code` and **bold `code` in it**
  - nested *deeper*
  - again
- three

> A quotation with **weight**
> on two lines

---

```
plain block

with a blank line
```

The end: 5 * 3 = 15, snake_case_name stays, and 2 < 3 & 4 > 1.
"""


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        "plain\ntwo lines\n\nand *another* paragraph",
        "***",
        "* a\n* b\n\n\n* c\n\n1) x\n2) y",
        "7. seven\n8. eight",
        "- [link](http://a.example/x_(y)) _em_ __strong__",
        "````\n```\nfence in a fence\n```\n````\nafter",
        "~~~html\n<b>no markup</b>\n~~~",
        "```python\nnever closed",
        "`` a ` b `` and `unclosed",
        "**unclosed and *inner* text",
        "not a heading: #one\n####### seven",
        "a \\*b\\* \\`c\\`",
        "text\n- list right after\n1. and numbers\n\n    indented",
        "In the year\n1984. It was cold.",
        "> - quoted\n> - list\n>\n> ```\n> code\n> ```",
        "-\n- \n- x",
        "**你好**世界**粗**",
        "* * *\ntext\n___",
        "a * b * c and ** d ** and _ e _",
    ],
)
def test_markdown(page: Page, text: str) -> None:
    """Oracle: the tree that markdown-it-py, a parser of CommonMark, makes of the same text."""
    expected = page.evaluate(f"(text) => {{ {EXPECTED} }}", MarkdownIt("commonmark", {"html": False}).render(text))
    if "    indented" in text:  # code by its indentation alone, which no model means
        expected = expected.replace("<pre><code>indented</code></pre>", "<p>indented</p>")
    assert shown(page, text) == expected


def test_what_differs_from_commonmark(page: Page) -> None:
    """Oracle: the text itself: arithmetic is no emphasis; addresses that stand alone are links, as on GitHub."""
    assert shown(page, "2*3*4 is 2**3*3**1") == "<p>2*3*4 is 2**3*3**1</p>"
    found = shown(page, "See https://a.example/b?c=d_e_f, or (http://x.example).")
    links = [f"<a {url}>{url}</a>" for url in ("https://a.example/b?c=d_e_f", "http://x.example")]
    assert found == f"<p>See {links[0]}, or ({links[1]}).</p>"


TAGS = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script><svg onload=window.hurt=1>'
HOSTILE = [
    TAGS,
    f"**{TAGS}** `{TAGS}` # {TAGS}",
    f"```html {TAGS}\n{TAGS}\n```\n- {TAGS}\n> {TAGS}",
    "[x](javascript:window.hurt=1) [y](data:text/html,<script>window.hurt=1</script>) [z](vbscript:x)",
    "[x](JaVaScRiPt:window.hurt=1) [x]( javascript:window.hurt=1) [x](//a.example) [x](/v1/sessions) [x](http:x)",
    '[x](https://a.example/"onmouseover="window.hurt=1) [x](https://a.example "t" onclick="window.hurt=1")',
    "<https://a.example><javascript:window.hurt=1> https://a.example/<img/src=x/onerror=window.hurt=1>",
    "![x](https://a.example/tracking.png) ![x](javascript:window.hurt=1)",
    "[x][r]\n\n[r]: javascript:window.hurt=1",
    "&lt;script&gt;window.hurt=1&lt;/script&gt; &#106;avascript:",
]
KINDS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "strong", "em", "code", "pre"}
FOUND = """async (text) => {
  const { markdown } = await import("/page/markdown.js");
  const body = document.createElement("div");
  document.body.append(body);
  const found = [];
  for (let end = 0; end <= text.length; end += 1) {
    body.replaceChildren(...markdown(text.slice(0, end), end < text.length));
    for (const element of body.querySelectorAll("*")) {
      found.push([element.localName, [...element.attributes].map((a) => [a.name, a.value])]);
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  const shown = body.textContent;
  body.remove();
  return [found, shown, window.hurt ?? null];
}"""
# What each kind of element may carry, beside those kinds that carry nothing.
CARRIED = {
    "a": {"href", "target", "rel"},
    "ol": {"start"},
    "div": {"class"},
    "span": set(),
    "button": {"type", "aria-label"},
    "pre": {"tabindex"},
}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markup_does_nothing(page: Page, text: str) -> None:
    """Oracle: a list of harmless elements and attributes, after every character; nothing ran; what was said is seen."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    found, seen, hurt = page.evaluate(FOUND, text)
    assert hurt is None
    assert [url for url in asked if not url.startswith(page.url)] == []
    for kind, attributes in found:
        assert kind in KINDS | set(CARRIED), kind
        carried: dict[str, Any] = dict(attributes)
        assert set(carried) <= CARRIED.get(kind, set())
        if kind == "a":
            assert carried["href"].startswith(("http://", "https://"))
            assert carried["rel"] == "noopener noreferrer"
    for piece in ("<img src=x", "javascript:", "<script>"):
        if piece in text and "```html" not in text:
            assert piece in seen


@pytest.mark.parametrize("size", [19_000, 100_000])
@pytest.mark.parametrize(
    "unit",
    [
        "*a ",
        "_a_ **b ",
        "`",
        "` `` ",
        "[a](",
        "[a](http://b",
        ">",
        "- ",
        " ",
        "\\",
        "*",
        "**a *b ",
        "1. x\n",
        "> - ",
        "- x\n  ",
    ],
)
@pytest.mark.parametrize("begin", ["", "# ", "https://a.example/", "```"])
def test_no_text_takes_long(page: Page, begin: str, unit: str, size: int) -> None:
    """Oracle: it ends, growing and whole (what is quadratic in a text's length does not, within a test's time)."""
    script = "async (asked) => (await import('/page/markdown.js')).markdown(...asked).length"
    for growing in (True, False):
        assert page.evaluate(script, [begin + unit * (size // len(unit)) + "x", growing]) > 0


GROWTH = """async (text) => {
  const { markdown } = await import("/page/markdown.js");
  const states = [];
  for (let end = 1; end <= text.length; end += 1) {
    const body = document.createElement("div");
    body.append(...markdown(text.slice(0, end), end < text.length));
    body.querySelectorAll(".bar button").forEach((button) => button.remove());
    states.push([body.textContent.replace(/\\s/g, ""), [...body.querySelectorAll("*")].map((e) => e.localName)]);
  }
  return states;
}"""


@pytest.mark.parametrize(
    "text", [ANSWER, "**Bold** at once, `code`, [a link](https://a.example) and `` a`b ``.\n\n***\n"]
)
def test_growing_text_never_takes_back(page: Page, text: str) -> None:
    """Oracle: the whole answer: what is shown after each character is how it begins, in text and in elements."""
    states = page.evaluate(GROWTH, text)
    whole, kinds = states[-1]
    for said, found in states:
        assert whole.startswith(said)
        assert kinds[: len(found)] == found


def test_code_is_copied(page: Page, local: Local) -> None:
    """Oracle: the code as it was written, tabs and blank lines included, from the clipboard; by keyboard alone."""
    code = "def f(x):\n\treturn x < 1\n\n  # end"
    answer = {"role": "assistant", "content": f"Here:\n\n```python\n{code}\n```\nDone."}
    local.post("/v1/sessions", {"id": "code", "messages": [{"role": "user", "content": "Code?"}, answer]})
    page.goto(f"{local.url}/#code")
    expect(page.locator(".assistant .bar span")).to_have_text("python")
    button = page.get_by_role("button", name="Copy this code")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == code
    page.get_by_role("button", name="Copy this answer").click()
    assert page.evaluate("navigator.clipboard.readText()") == answer["content"]
    # Where a page may not use the clipboard (plain HTTP from another machine), the older way copies all the same.
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    button.click()
    expect(button).to_have_text("Copied")
