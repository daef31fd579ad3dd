// Markdown within a line: code, emphasis, links. Nodes are built; no text is ever parsed as HTML.
//
// Unlike CommonMark, marks of emphasis after a Latin letter or a digit begin nothing: 2*3*4 and 2**3 are arithmetic.

import { made } from "./dom.js";

const LINK = /^\[([^[\]\n]{1,500})\]\((https?:\/\/[^\s()<>"]+(?:\([^\s()<>"]*\)[^\s()<>"]*)*)(?:\s"[^"\n]*")?\)/i;
const BARE = /^https?:\/\/[^\s<>"`*[\]{}|\\^]{1,2000}/i;
const ESCAPED = /^\\([!-/:-@[-`{-~])/;
const WORD = /[\p{L}\p{N}]/u;
const MOST_NESTED = 8;
const LONGEST = 20_000; // characters; a longer paragraph is shown as it is

/** A link that opens beside the page and tells the other side nothing of it; only http and https get this far. */
function link(address, children) {
  return made("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, ...children);
}

/** Reader of one text. While the text is `growing`, marks that are open are taken to end with it. */
class Reader {
  #endless = new Set(); // marks that end nowhere in what is left, so that each is sought once

  constructor(text, growing, depth) {
    this.text = text;
    this.growing = growing;
    this.depth = depth;
  }

  nodes() {
    const nodes = [];
    let plain = "";
    for (let at = 0; at < this.text.length; ) {
      const item = this.#itemAt(at);
      if (item) {
        if (plain) nodes.push(plain);
        plain = "";
        nodes.push(...item.nodes);
        at = item.end;
      } else {
        // A run of marks that begins nothing is text as a whole.
        const end = this.#runEnd(at);
        plain += this.text.slice(at, end);
        at = end;
      }
    }
    return plain ? [...nodes, plain] : nodes;
  }

  /** What begins at `at` other than plain text: its nodes and where it ends; or null. */
  #itemAt(at) {
    const { text } = this;
    const before = text[at - 1] ?? " ";
    let found;
    switch (text[at]) {
      case "\\":
        found = ESCAPED.exec(text.slice(at, at + 2));
        return found && { end: at + 2, nodes: [found[1]] };
      case "`":
        return this.#code(at);
      case "*":
      case "_":
        return this.#emphasis(at, before);
      case "[":
        found = LINK.exec(text.slice(at));
        return found && { end: at + found[0].length, nodes: [link(found[2], inside(found[1]))] };
      case "h":
      case "H":
        found = WORD.test(before) ? null : BARE.exec(text.slice(at));
        if (!found) return null;
        found = found[0].replace(/[.,:;!?'")]+$/, "");
        return { end: at + found.length, nodes: [link(found, [found])] };
      default:
        return null;
    }
  }

  /** The end of the run of one mark that begins at `at`; of other characters each is a run. */
  #runEnd(at) {
    const mark = this.text[at];
    let end = at + 1;
    while ("*_`".includes(mark) && this.text[end] === mark) end += 1;
    return end;
  }

  /** Code between equally long runs of backticks. */
  #code(at) {
    const begin = this.#runEnd(at);
    const end = this.#codeEnd(at);
    if (end < 0 && !this.growing) return null;
    let code = (end < 0 ? this.text.slice(begin) : this.text.slice(begin, end - (begin - at))).replaceAll("\n", " ");
    if (code.startsWith(" ") && code.endsWith(" ") && code.trim()) code = code.slice(1, -1);
    return { end: end < 0 ? this.text.length : end, nodes: [made("code", { textContent: code })] };
  }

  /** Where the code ends whose first backtick is at `at`, or -1. */
  #codeEnd(at) {
    const begin = this.#runEnd(at);
    const ticks = this.text.slice(at, begin);
    if (this.#endless.has(ticks)) return -1;
    for (let next = this.text.indexOf("`", begin); next >= 0; next = this.text.indexOf("`", next)) {
      const end = this.#runEnd(next);
      if (end - next === ticks.length) return end;
      next = end;
    }
    this.#endless.add(ticks);
    return -1;
  }

  /** Strong or emphasised text; null if none begins here. */
  #emphasis(at, before) {
    const run = this.#runEnd(at) - at;
    const mark = this.text.slice(at, at + Math.min(run, 2));
    const follows = this.text[at + run] ?? " ";
    if (run > 3 || this.depth >= MOST_NESTED || /\s/.test(follows)) return null;
    if (mark[0] === "*" ? /[A-Za-z0-9]/.test(before) : WORD.test(before)) return null;
    const begin = at + mark.length;
    const end = this.#emphasisEnd(begin + (run - mark.length), mark);
    if (end < 0 && !this.growing) return null;
    const reader = new Reader(this.text.slice(begin, end < 0 ? undefined : end), end < 0, this.depth + 1);
    const nodes = [made(mark.length === 2 ? "strong" : "em", {}, ...reader.nodes())];
    return { end: end < 0 ? this.text.length : end + mark.length, nodes };
  }

  /** Where emphasis by `mark` ends after `begin`, or -1. What stands in code ends nothing. */
  #emphasisEnd(begin, mark) {
    if (this.#endless.has(mark)) return -1;
    for (let at = begin; at < this.text.length; ) {
      const end = this.#runEnd(at);
      if (this.text[at] === "\\") at += 2;
      else if (this.text[at] === "`") at = Math.max(this.#codeEnd(at), end);
      else if (this.text[at] === mark[0] && this.#closes(begin, at, end, mark)) {
        return at + (end - at === 3 ? 3 - mark.length : 0);
      } else at = end;
    }
    this.#endless.add(mark);
    return -1;
  }

  #closes(begin, at, end, mark) {
    if (at === begin || /\s/.test(this.text[at - 1])) return false;
    if (mark[0] === "_" && WORD.test(this.text[end] ?? " ")) return false;
    return end - at === mark.length || end - at === 3;
  }
}

const inside = (text) => new Reader(text, false, MOST_NESTED).nodes();

/** The end of a growing text that cannot be told yet: the beginning of a mark, or of a link. */
function undecided(text) {
  const found = /(?:(?<![*_`\\])[*_`\\]+|\[[^[\]\n]{0,200}(?:\]|\]\([^()\s]{0,2000})?)$/.exec(text);
  return found?.index ?? text.length;
}

/** Nodes of the text of one paragraph; while it is `growing`, no mark is shown before it is sure what it means. */
export function inline(text, growing = false) {
  if (text.length > LONGEST) return [text];
  return new Reader(growing ? text.slice(0, undecided(text)) : text, growing, 0).nodes();
}
