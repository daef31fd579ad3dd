// Blocks of code, each with its language and a button that copies it.

import { button, made } from "./dom.js";

const SHOWN_MS = 2000;

/** Copies a text; also where a page is not trusted with the clipboard, as over plain HTTP from another machine. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const box = made("textarea", { value: text, readOnly: true, className: "unseen" });
    const before = document.activeElement;
    document.body.append(box);
    box.select();
    const well = document.execCommand("copy");
    box.remove();
    before?.focus();
    return well;
  }
}

/** A button that copies what `text()` gives, and says so. */
export function copyButton(label, text) {
  const copies = button("Copy", label, async () => {
    copies.textContent = (await copy(text())) ? "Copied" : "Not copied";
    setTimeout(() => (copies.textContent = "Copy"), SHOWN_MS);
  });
  return copies;
}

/** A block of code. */
export function codeBlock(code, language) {
  const bar = made("div", { className: "bar" }, made("span", { textContent: language }));
  bar.append(copyButton("Copy this code", () => code));
  const pre = made("pre", { tabIndex: 0 }, made("code", { textContent: code })); // scrolled by its arrow keys
  return made("div", { className: "code" }, bar, pre);
}
