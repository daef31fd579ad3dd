// How a conversation looks. Texts of the model and of users become text and elements made from it, never HTML.

import { copyButton } from "./code.js";
import { button, made, update } from "./dom.js";
import { markdown, plain } from "./markdown.js";

const talk = document.getElementById("talk");
const scroll = document.getElementById("scroll");

/** What the model reasoned before its answer, behind a line that opens it. */
function reasoningOf(text, open) {
  const thought = made("div", { className: "thought", textContent: text });
  return made("details", { className: "reasoning", open }, made("summary", { textContent: "Reasoning" }), thought);
}

/** A call of a tool: its name, and its arguments as JSON on lines of their own. */
function callOf({ name, arguments: given }) {
  let shown = given;
  try {
    shown = JSON.stringify(JSON.parse(given), null, 2);
  } catch {
    // What is no JSON is shown as it is.
  }
  const what = made("div", {}, "Calls ", made("code", { textContent: name }));
  return made("div", { className: "call" }, what, made("pre", {}, made("code", { textContent: shown })));
}

/** The parts of a message in their order: reasoning, text, calls. */
function partsOf(message) {
  const reasoning = message.reasoning_content ? [reasoningOf(message.reasoning_content, false)] : [];
  const shown = message.role === "assistant" ? markdown : plain;
  const text = made("div", { className: "text" }, ...shown(message.content ?? ""));
  return [...reasoning, text, ...(message.tool_calls ?? []).map((call) => callOf(call.function))];
}

/** A message; one that is `unfinished` says so. */
function itemOf(message, actions) {
  const mark = message.unfinished ? [made("p", { className: "mark", textContent: message.unfinished })] : [];
  const copies = message.role === "assistant" && message.content ? [copyButton("Copy this answer", () => message.content)] : [];
  const below = made("div", { className: "actions" }, ...actions, ...copies);
  const item = made("li", { className: `message ${message.role}` }, ...partsOf(message), ...mark, below);
  item.classList.toggle("unfinished", mark.length > 0);
  item.setAttribute("aria-label", message.role === "user" ? "You" : message.role);
  return item;
}

/** Shows messages; `actionsOf(message, index)` gives the buttons below each. */
export function show(messages, actionsOf) {
  talk.replaceChildren(...messages.map((message, index) => itemOf(message, actionsOf(message, index))));
  scroll.scrollTop = scroll.scrollHeight;
}

/** The last message grows; it is drawn once a frame at most. */
export class Growing {
  #text = "";
  #thought = "";
  #drawn = false;

  constructor() {
    this.item = talk.lastElementChild;
    this.item.setAttribute("aria-busy", "true"); // so that it is read out whole, not letter by letter
  }

  push(text) {
    this.#text += text;
    this.#due();
  }

  /** Whether anything has come. */
  get some() {
    return Boolean(this.#text || this.#thought);
  }

  /** The message as far as it has come. */
  get message() {
    const reasoning = this.#thought ? { reasoning_content: this.#thought } : {};
    return { role: "assistant", content: this.#text, ...reasoning };
  }

  /** Adds to what the model reasons before its answer. */
  reason(text) {
    this.#thought += text;
    this.#due();
  }

  #due() {
    if (this.#drawn) return;
    this.#drawn = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawn = false;
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    this.#drawThought();
    update(this.item.querySelector(".text"), markdown(this.#text, true));
    if (atEnd) scroll.scrollTop = scroll.scrollHeight;
  }

  /** Reasoning is open while it grows; the answer closes it, once. */
  #drawThought() {
    if (!this.#thought) return;
    const text = this.item.querySelector(".text");
    if (!this.item.querySelector(".reasoning")) text.before(reasoningOf("", true));
    this.item.querySelector(".thought").textContent = this.#thought;
    if (this.#text && !text.hasChildNodes()) this.item.querySelector(".reasoning").open = false;
  }
}

/** When something was, in seconds since 1970: the time of today, the day of this week, else the date. */
function timeOf(seconds) {
  const [then, now] = [new Date(seconds * 1000), new Date()];
  const days = (now.setHours(0, 0, 0, 0) - new Date(then).setHours(0, 0, 0, 0)) / 86_400_000;
  const form =
    days < 1 ? { hour: "2-digit", minute: "2-digit" }
    : days < 7 ? { weekday: "short" }
    : { day: "numeric", month: "short", ...(then.getFullYear() !== now.getFullYear() && { year: "numeric" }) };
  const title = then.toLocaleString([], { dateStyle: "full", timeStyle: "short" });
  return made("time", { dateTime: then.toISOString(), title, textContent: then.toLocaleString([], form) });
}

/** Shows the stored conversations. */
export function list(sessions, open, onOpen, onDelete) {
  document.getElementById("sessions").replaceChildren(
    ...sessions.map((session) => {
      const title = session.title || "New conversation";
      const name = button("", `Open ${title}`, () => onOpen(session.id));
      name.className = "name";
      name.append(made("span", { textContent: title }), timeOf(session.updated));
      if (session.id === open) name.setAttribute("aria-current", "true");
      const remove = button("×", `Delete ${title}`, () => onDelete(session.id, title));
      remove.className = "delete";
      return made("li", { className: session.id === open ? "open" : "" }, name, remove);
    }),
  );
}
