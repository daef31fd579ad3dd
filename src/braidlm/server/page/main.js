// The page: one conversation at a time, which lives on the server as a session.

import * as api from "./api.js";
import { button } from "./dom.js";
import { AnswerMetrics, showConversation } from "./metrics.js";
import { beginning, sampling, wrongSetting } from "./settings.js";
import * as view from "./view.js";

const element = (id) => document.getElementById(id);
const box = element("text");
const drawer = element("drawer");

let info = null;
let id = null; // of the open session; null before the first message
let messages = []; // as the server has them
let editing = null; // index of the message that is being changed
let going = null; // the answer that is being written: {abort, turn}
let watching = false; // whether a server that is gone comes back

// Turns whose answer broke off, by session. A turn: `added` messages after the first `keep`, and the `answer` to them
// as far as it has come. The server knows nothing of it until its end.
const broken = new Map();
const BROKE_OFF = "This answer broke off.";

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
    if (error instanceof api.Lost) watch();
    return false;
  }
}

/** Waits for a server that is gone, and says when it is back. */
async function watch() {
  if (watching) return;
  watching = true;
  element("model").textContent = "no server";
  const said = element("trouble").textContent;
  while (await api.ready().then(() => false, () => true)) await pause(1000);
  watching = false;
  element("model").textContent = info?.model ?? "";
  if (element("trouble").textContent !== said) return;
  element("trouble").textContent = "";
  note("The server is back.");
}

function note(text) {
  element("note").textContent = text;
  element("note").hidden = !text;
}

function askForKey() {
  const dialog = element("key-dialog");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(api.useKey(element("key").value)), { once: true });
  });
}

/** The messages that are shown: those of the server, and of a turn that it does not have yet. */
function shown() {
  const turn = going?.turn ?? broken.get(id);
  return turn ? [...messages.slice(0, turn.keep), ...turn.added, turn.answer] : messages;
}

function actionsOf(message, index) {
  if (going) return [];
  if (broken.has(id)) return message.unfinished ? actionsOfBroken() : [];
  const branch = button("Branch", "Branch: a new conversation up to here", () => attempt(() => fork(index + 1)));
  const last = index === messages.length - 1;
  const again = () => answer([], index);
  if (message.role === "user") {
    const unanswered = last ? [button("Answer", "Have this message answered", () => answer([]))] : [];
    return [...unanswered, button("Edit", "Edit this message", () => edit(index)), branch];
  }
  if (message.role !== "assistant") return [];
  return last ? [button("Regenerate", "Write this answer again", again), branch] : [branch];
}

function actionsOfBroken() {
  const { added, keep } = broken.get(id);
  const retry = button("Try again", "Ask for this answer again", () => answer(added, keep));
  const discard = button("Discard", "Discard this part of an answer", () => {
    broken.delete(id);
    draw();
  });
  return [retry, discard];
}

function draw() {
  view.show(shown(), actionsOf);
  element("welcome").hidden = shown().length > 0;
  element("send").hidden = going !== null;
  element("stop").hidden = going === null;
  note(editing === null ? "" : "Changing an earlier message; what follows it is replaced. Esc leaves it.");
}

async function refreshList() {
  const sessions = info.sessions ? await api.sessions() : [];
  view.list(sessions, id, (other) => attempt(() => open(other)), remove);
  const here = sessions.find((session) => session.id === id);
  element("title").textContent = here?.title || "New conversation";
}

/** Leaves an answer that is being written; what there is of it stays in its session. */
function interrupt() {
  if (!going) return;
  going.abort();
  going = null;
  draw();
}

/** What `work` gives; while the server is still writing to the session it is about, it is asked again. */
async function whenFree(work) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (error.status !== 409) throw error;
      await pause(100);
    }
  }
}

/** Shows a stored conversation. */
async function open(other) {
  interrupt();
  const session = await whenFree(() => api.session(other));
  id = other;
  messages = session.messages;
  editing = null;
  location.hash = other;
  showDrawer(false);
  draw();
  showConversation(id, info.state, session.tokens);
  await refreshList();
}

async function startAnew() {
  interrupt();
  id = null;
  messages = [];
  editing = null;
  history.replaceState(null, "", location.pathname);
  element("metrics").hidden = true;
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
    await whenFree(() => api.deleteSession(other));
    broken.delete(other);
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

/** Begins a session with the first messages of a turn in it: none is ever empty. */
async function beginSession(turn, mine) {
  const first = [...beginning(), ...turn.added];
  const made = await api.createSession(first);
  if (going !== mine) return; // another conversation was opened meanwhile
  id = made.id;
  location.hash = id;
  messages = first;
  Object.assign(turn, { keep: first.length, added: [] });
}

/** Streams a turn's answer into the last message that is shown. Gives whether the server brought it to its end. */
async function stream({ keep, added }, signal, growing) {
  const session = id;
  const metrics = new AnswerMetrics(() => id === session);
  const body = { model: info.model, session, session_keep: keep, messages: added, ...sampling() };
  let usage = null;
  let reason = "";
  try {
    for await (const part of api.answer(body, signal)) {
      if (part.reasoning) growing.reason(part.reasoning);
      if (part.text) growing.push(part.text);
      if (part.reasoning || part.text) metrics.chunk();
      usage = part.usage ?? usage;
      reason = part.reason ?? reason;
    }
    return true;
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    reason = "stopped";
    return false;
  } finally {
    metrics.end(session, usage, reason);
  }
}

/** Asks for the answer to `added` messages after the first `keep`; false if all is as it was before. */
async function answer(added, keep = messages.length) {
  if (complain()) return false;
  const control = new AbortController();
  const turn = { keep, added, answer: { role: "assistant", content: "" } };
  const mine = { abort: () => control.abort(), turn };
  const [isNew, old, count] = [id === null, broken.get(id), messages.length];
  going = mine;
  draw();
  const growing = new view.Growing();
  let ended = false;
  const well = await attempt(async () => {
    if (isNew) await beginSession(turn, mine);
    if (going === mine) ended = await stream(turn, control.signal, growing);
  });
  if (going !== mine) return true;
  going = null;
  broken.delete(id);
  if (!well && growing.some) broken.set(id, { ...turn, answer: { ...growing.message, unfinished: BROKE_OFF } });
  else if (old && !ended && !growing.some) broken.set(id, old);
  const said = element("trouble").textContent;
  const stays = growing.some || ended || !isNew || !(await withdraw());
  if (!stays || id === null || !(await attempt(() => open(id)))) draw();
  element("trouble").textContent ||= said;
  return isNew ? id !== null : growing.some || ended || messages.length > count;
}

/** Takes back a new session in which nothing was answered: its message goes back to who wrote it. */
async function withdraw() {
  if (id !== null && !(await attempt(() => whenFree(() => api.deleteSession(id))))) return false;
  id = null;
  messages = [];
  history.replaceState(null, "", location.pathname);
  return true;
}

/** Shows the first setting that cannot be used, if there is one. */
function complain() {
  const input = wrongSetting();
  if (!input) return false;
  element("settings").open = true;
  showDrawer(true);
  input.reportValidity();
  input.focus();
  return true;
}

async function send() {
  const content = box.value.trim();
  if (!content || going || !info || complain()) return;
  const part = editing === null ? broken.get(id) : undefined;
  // After an answer that broke off, the conversation goes on from what there is of it.
  const { unfinished: _, ...half } = part?.answer ?? {};
  const added = part ? [...part.added, half] : [];
  const keep = part?.keep ?? editing ?? messages.length;
  editing = null;
  box.value = "";
  fit();
  const answered = await answer([...added, { role: "user", content }], keep);
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
  } else if (event.key === "ArrowUp" && !box.value && !going && !broken.has(id)) {
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
