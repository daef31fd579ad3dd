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

const contentOf = (message) => {
  const calls = (message.tool_calls ?? []).map((call) => `${call.function.name}(${call.function.arguments})`);
  return [message.content, ...calls].filter(Boolean).join("\n");
};

/** Shows messages; `actionsOf(message, index)` gives the buttons below each. */
export function show(messages, actionsOf) {
  talk.replaceChildren(
    ...messages.map((message, index) => {
      const text = made("div", { className: "text" }, ...blocks(contentOf(message)));
      const actions = made("div", { className: "actions" }, ...actionsOf(message, index));
      const item = made("li", { className: `message ${message.role}` }, text, actions);
      item.setAttribute("aria-label", message.role === "user" ? "You" : message.role);
      return item;
    }),
  );
  scroll.scrollTop = scroll.scrollHeight;
}

/** The last message grows; it is drawn once a frame at most. */
export class Growing {
  #text = "";
  #drawn = false;

  constructor() {
    this.item = talk.lastElementChild;
    this.item.setAttribute("aria-busy", "true"); // so that it is read out whole, not letter by letter
  }

  push(text) {
    this.#text += text;
    if (this.#drawn) return;
    this.#drawn = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawn = false;
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    this.item.querySelector(".text").replaceChildren(...blocks(this.#text));
    if (atEnd) scroll.scrollTop = scroll.scrollHeight;
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
