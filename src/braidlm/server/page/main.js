// The page: one conversation at a time, which lives on the server as a session.

import * as api from "./api.js";
import { Figures, showState } from "./figures.js";
import { beginning, sampling } from "./settings.js";
import * as view from "./view.js";

const element = (id) => document.getElementById(id);
const box = element("text");
const drawer = element("drawer");

let info = null;
let id = null; // of the open session; null before the first message
let messages = [];
let editing = null; // index of the message that is being changed
let going = null; // aborts the answer that is being written

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs something that may be refused; says why below the conversation. Gives whether it went well. */
async function attempt(work) {
  element("trouble").textContent = "";
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof api.Refusal)) throw error;
    if (error.status === 401) {
      await askForKey();
      return attempt(work);
    }
    element("trouble").textContent = error.message;
    return false;
  }
}

function askForKey() {
  const dialog = element("key-dialog");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(api.useKey(element("key").value)), { once: true });
  });
}

function actionsOf(message, index) {
  if (going) return [];
  const branch = view.button("Branch", "Branch: a new conversation up to here", () => attempt(() => fork(index + 1)));
  if (message.role === "user") return [view.button("Edit", "Edit this message", () => edit(index)), branch];
  if (message.role !== "assistant") return [];
  if (index < messages.length - 1) return [branch];
  return [view.button("Regenerate", "Write this answer again", () => answer([], index)), branch];
}

function draw() {
  view.show(messages, actionsOf);
  element("welcome").hidden = messages.length > 0;
  element("send").hidden = going !== null;
  element("stop").hidden = going === null;
  element("note").hidden = editing === null;
  element("note").textContent = editing === null ? "" : "Changing an earlier message; what follows it is replaced. Esc leaves it.";
}

async function refreshList() {
  const sessions = info.sessions ? await api.sessions() : [];
  view.list(sessions, id, (other) => attempt(() => open(other)), remove);
  const here = sessions.find((session) => session.id === id);
  element("title").textContent = here?.title || "New conversation";
}

/** Leaves an answer that is being written; what there is of it stays in its session. */
function interrupt() {
  going?.abort();
  going = null;
}

/** Shows a stored conversation. While the server is still writing to it, it is asked again. */
async function open(other) {
  interrupt();
  let session = null;
  while (session === null) {
    try {
      session = await api.session(other);
    } catch (error) {
      if (error.status !== 409) throw error;
      await pause(100);
    }
  }
  id = other;
  messages = session.messages;
  editing = null;
  location.hash = other;
  showDrawer(false);
  draw();
  showState(info.state, session.tokens);
  await refreshList();
}

async function startAnew() {
  interrupt();
  id = null;
  messages = [];
  editing = null;
  history.replaceState(null, "", location.pathname);
  element("figures").hidden = true;
  showDrawer(false);
  draw();
  box.focus();
  await refreshList();
}

async function fork(keep) {
  const made = await api.forkSession(id, keep);
  await open(made.id);
}

function remove(other, title) {
  if (!confirm(`Delete “${title}” for good?`)) return;
  attempt(async () => {
    await api.deleteSession(other);
    await (other === id ? startAnew() : refreshList());
  });
}

function edit(index) {
  editing = index;
  box.value = messages[index].content;
  fit();
  draw();
  box.focus();
}

/** Asks for the answer to `added` messages after the first `keep`; true if there was one. */
async function answer(added, keep = messages.length) {
  const before = messages;
  const mine = new AbortController();
  messages = [...messages.slice(0, keep), ...added, { role: "assistant", content: "" }];
  going = mine;
  draw();
  const growing = new view.Growing();
  const figures = new Figures();
  let wrote = false;
  const well = await attempt(async () => {
    try {
      const held = id === null ? {} : { session_keep: keep };
      id ??= (await api.createSession(beginning())).id;
      location.hash = id;
      const body = { model: info.model, session: id, ...held, messages: added, ...sampling() };
      for await (const { reasoning, text, usage } of api.answer(body, mine.signal)) {
        if (reasoning || text) {
          wrote = true;
          if (reasoning) growing.reason(reasoning);
          else growing.push(text);
          figures.piece();
        }
        if (usage) figures.end(usage, info.state);
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  });
  if (going !== mine) return true; // another conversation was opened meanwhile
  going = null;
  messages = before;
  draw();
  const said = element("trouble").textContent;
  if (id !== null) await attempt(() => open(id));
  element("trouble").textContent ||= said;
  return well && (wrote || messages.length > before.length);
}

async function send() {
  const content = box.value.trim();
  if (!content || going || !info) return;
  const keep = editing ?? messages.length;
  editing = null;
  box.value = "";
  fit();
  const answered = await answer([{ role: "user", content }], keep);
  if (!answered && !box.value) box.value = content; // nothing was stored: it can be sent again
  fit();
  box.focus();
}

function fit() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

function showDrawer(shown) {
  drawer.classList.toggle("shown", shown);
  element("menu").setAttribute("aria-expanded", String(shown));
  if (shown) element("new").focus();
}

function leave() {
  if (going) going.abort();
  else if (editing !== null) {
    editing = null;
    box.value = "";
    fit();
    draw();
  } else showDrawer(false);
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
element("stop").addEventListener("click", leave);
element("new").addEventListener("click", () => attempt(startAnew));
element("menu").addEventListener("click", () => showDrawer(!drawer.classList.contains("shown")));
box.addEventListener("input", fit);
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && !box.value && !going) {
    const last = messages.findLastIndex((message) => message.role === "user");
    if (last < 0) return;
    event.preventDefault();
    edit(last);
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") leave();
  else if (event.altKey && event.code === "KeyN") {
    event.preventDefault();
    attempt(startAnew);
  }
});

/** Goes where the address says: after a reload, a link, or a step back. */
async function follow() {
  const asked = decodeURIComponent(location.hash.slice(1));
  if (asked === (id ?? "")) return;
  if (!asked || !(await attempt(() => open(asked)))) await attempt(startAnew);
}

async function begin() {
  for (;;) {
    try {
      await api.ready();
      break;
    } catch (error) {
      element("model").textContent = "loading…";
      if (error.status !== 503) element("trouble").textContent = error.message;
      await pause(500);
    }
  }
  element("trouble").textContent = "";
  await attempt(async () => {
    info = await api.info();
    element("model").textContent = info.model;
  });
  if (!info.chat || !info.sessions) {
    element("trouble").textContent = info.chat
      ? "This server keeps no sessions."
      : "This model has no chat template; use /v1/completions.";
    element("send").disabled = true;
    return;
  }
  draw();
  await attempt(refreshList);
  await follow();
  addEventListener("hashchange", follow);
}

begin();
