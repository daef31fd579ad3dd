// How a conversation looks. Texts of the model and of users become text, never markup.

const talk = document.getElementById("talk");
const scroll = document.getElementById("scroll");

function made(kind, properties, ...children) {
  const element = Object.assign(document.createElement(kind), properties);
  element.append(...children);
  return element;
}

/** A button with a word on it. */
export function button(word, label, act) {
  const element = made("button", { type: "button", textContent: word });
  element.setAttribute("aria-label", label);
  element.addEventListener("click", act);
  return element;
}

/** Text with blocks of code between fences of three backticks. */
function blocks(text) {
  return text.split(/^```/m).flatMap((part, number) => {
    if (number % 2 === 0) return part ? [part] : [];
    return [made("pre", {}, made("code", { textContent: part.replace(/^[^\n]*\n?/, "") }))];
  });
}

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
  const text = made("div", { className: "text" }, ...blocks(message.content ?? ""));
  return [...reasoning, text, ...(message.tool_calls ?? []).map((call) => callOf(call.function))];
}

/** Shows messages; `actionsOf(message, index)` gives the buttons below each. */
export function show(messages, actionsOf) {
  talk.replaceChildren(
    ...messages.map((message, index) => {
      const actions = made("div", { className: "actions" }, ...actionsOf(message, index));
      const item = made("li", { className: `message ${message.role}` }, ...partsOf(message), actions);
      item.setAttribute("aria-label", message.role === "user" ? "You" : message.role);
      return item;
    }),
  );
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
    this.item.querySelector(".text").replaceChildren(...blocks(this.#text));
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

/** Shows the stored conversations. */
export function list(sessions, open, onOpen, onDelete) {
  document.getElementById("sessions").replaceChildren(
    ...sessions.map((session) => {
      const title = session.title || "New conversation";
      const name = button(title, `Open ${title}`, () => onOpen(session.id));
      name.className = "name";
      if (session.id === open) name.setAttribute("aria-current", "true");
      const remove = button("×", `Delete ${title}`, () => onDelete(session.id, title));
      remove.className = "delete";
      return made("li", { className: session.id === open ? "open" : "" }, name, remove);
    }),
  );
}
