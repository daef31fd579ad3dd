// Markdown as models write it, as nodes: headings, lists, quotations, code. What it does not know stays plain text.

import { codeBlock } from "./code.js";
import { made } from "./dom.js";
import { inline } from "./inline.js";

const FENCE = /^( {0,3})(`{3,}|~{3,})([^`\n]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(\S.*)$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( {1,4})(?=\S)|[ \t]|$)/;
// A last line that is still growing and may become any of these, or their end.
const UNDECIDED = /^[\s>]*(?:[-*+_=~`#][-*+_=~`#\s>]*|\d{1,9}[.)]?\s*)?$/;
const MOST_NESTED = 12;
const TAB = 4;

const isBlank = (line) => line.trim() === "";

/** Columns of white space that a line begins with. */
function indentOf(line) {
  return [.../^[ \t]*/.exec(line)[0]].reduce((columns, blank) => columns + (blank === "\t" ? TAB : 1), 0);
}

/** A line without the first `width` columns of its white space. */
function outdented(line, width) {
  let at = 0;
  for (let columns = 0; columns < width && (line[at] === " " || line[at] === "\t"); at += 1) {
    columns += line[at] === "\t" ? TAB : 1;
  }
  return line.slice(at);
}

/** A block of code between fences; one that is not closed goes to the end. */
function fence(lines, at, { growing }) {
  const begun = FENCE.exec(lines[at]);
  if (!begun) return null;
  const [, indent, marks, about] = begun;
  const closes = new RegExp(`^ {0,3}${marks[0]}{${marks.length},}[ \\t]*$`);
  let end = at + 1;
  while (end < lines.length && !closes.test(lines[end])) end += 1;
  const code = lines.slice(at + 1, end).map((line) => outdented(line, indent.length));
  const language = growing && at === lines.length - 1 ? "" : about.trim().split(/\s/)[0];
  return { end: end + 1, nodes: [codeBlock(code.join("\n"), language)] };
}

function heading(lines, at, { growing }) {
  const found = HEADING.exec(lines[at]);
  if (!found) return null;
  const text = found[2].trimEnd().replace(/[ \t]#+$/, "");
  return { end: at + 1, nodes: [made(`h${found[1].length}`, {}, ...inline(text, growing && at === lines.length - 1))] };
}

function rule(lines, at) {
  return RULE.test(lines[at]) ? { end: at + 1, nodes: [made("hr", {})] } : null;
}

function quote(lines, at, { growing, depth }) {
  if (!QUOTE.test(lines[at]) || depth >= MOST_NESTED) return null;
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  const nodes = parsed(inner, { growing: growing && end === lines.length, depth: depth + 1 });
  return { end, nodes: [made("blockquote", {}, ...nodes)] };
}

const isOrdered = (item) => item[2].length > 1;
const isLike = (item, first) => item !== null && item[2].at(-1) === first[2].at(-1) && isOrdered(item) === isOrdered(first);

/** The first line at or after `at` that is not blank. */
function afterBlanks(lines, at) {
  while (at < lines.length && isBlank(lines[at])) at += 1;
  return at;
}

/** The end of an item whose text begins at column `width`: before the next line that does not belong to it. */
function itemEnd(lines, at, width) {
  let end = at + 1;
  while (end < lines.length) {
    const next = afterBlanks(lines, end);
    const lazy = next === end && !isBlank(lines[end - 1]) && !ITEM.test(lines[end]) && !interrupts(lines[end]);
    if (next === lines.length || !(indentOf(lines[next]) >= width || lazy)) break;
    end = next + 1;
  }
  return end;
}

function list(lines, at, { growing, depth }) {
  const first = ITEM.exec(lines[at]);
  if (!first || depth >= MOST_NESTED) return null;
  const items = [];
  let next = at;
  let item = first;
  while (isLike(item, first) && !RULE.test(lines[next])) {
    const width = item[1].length + item[2].length + (item[3]?.length ?? 1);
    const end = itemEnd(lines, next, width);
    const inner = [lines[next].slice(width), ...lines.slice(next + 1, end).map((line) => outdented(line, width))];
    items.push(made("li", {}, ...parsed(inner, { growing: growing && end === lines.length, depth: depth + 1 })));
    next = afterBlanks(lines, end);
    item = next < lines.length ? ITEM.exec(lines[next]) : null;
  }
  const kind = isOrdered(first) ? "ol" : "ul";
  return { end: next, nodes: [made(kind, kind === "ol" ? { start: Number.parseInt(first[2], 10) } : {}, ...items)] };
}

/** Whether a line ends the paragraph before it. A number that is not 1 does not: it may be a year. */
function interrupts(line) {
  const item = ITEM.exec(line);
  if (item && !RULE.test(line)) return !isBlank(line.slice(item[0].length)) && /^([-*+]|1[.)])$/.test(item[2]);
  return [FENCE, HEADING, RULE, QUOTE].some((begins) => begins.test(line));
}

function paragraph(lines, at, { growing }) {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]) && !interrupts(lines[end])) end += 1;
  const text = lines.slice(at, end).map((line) => line.trim()).join("\n");
  return { end, nodes: [made("p", {}, ...inline(text, growing && end === lines.length))] };
}

const RULES = [fence, heading, rule, quote, list, paragraph];

function parsed(lines, about) {
  const nodes = [];
  for (let at = afterBlanks(lines, 0); at < lines.length; at = afterBlanks(lines, at)) {
    const block = RULES.reduce((found, take) => found ?? take(lines, at, about), null);
    nodes.push(...block.nodes);
    at = block.end;
  }
  return nodes;
}

/** Nodes of a text. One that is still `growing` shows no mark before it is sure what it means. */
export function markdown(text, growing = false) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  if (growing && UNDECIDED.test(lines.at(-1))) lines.pop();
  return parsed(lines, { growing, depth: 0 });
}

/** Nodes of a text that a person wrote: as it was typed, with blocks of code. */
export function plain(text) {
  const lines = text.split("\n");
  const nodes = [];
  let said = [];
  for (let at = 0; at < lines.length; ) {
    const block = fence(lines, at, {});
    if (block) {
      if (said.length) nodes.push(said.join("\n"));
      said = [];
      nodes.push(...block.nodes);
    } else said.push(lines[at]);
    at = block ? block.end : at + 1;
  }
  return said.length ? [...nodes, said.join("\n")] : nodes;
}
