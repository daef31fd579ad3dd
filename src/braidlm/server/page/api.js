// The server's API: JSON, errors as sentences, and streams of events.

const KEY = "braidlm-key";

/** What the server refuses, with its status and one sentence for people. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

async function request(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  let reply;
  try {
    reply = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server cannot be reached.");
  }
  if (reply.ok) return reply;
  const told = await reply.json().catch(() => null);
  throw new Refusal(reply.status, told?.error?.message ?? `The server answered ${reply.status}.`);
}

const json = async (...asked) => (await request(...asked)).json();
const at = (id) => `/v1/sessions/${encodeURIComponent(id)}`;

export const ready = () => request("GET", "/ready");
export const info = () => json("GET", "/info");
export const sessions = async () => (await json("GET", "/v1/sessions")).data;
export const createSession = (messages) => json("POST", "/v1/sessions", { messages });
export const session = (id) => json("GET", at(id));
export const deleteSession = (id) => json("DELETE", at(id));
export const forkSession = (id, keep) => json("POST", `${at(id)}/fork`, { keep });

/** Asks for an answer; yields {reasoning} and {text} as they are written, and {usage} at the end. */
export async function* answer(body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const reply = await request("POST", "/v1/chat/completions", asked, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (held + value).split("\n");
    held = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refusal(500, event.error.message);
      const { reasoning_content: reasoning, content: text } = event.choices[0]?.delta ?? {};
      if (reasoning) yield { reasoning };
      if (text) yield { text };
      if (event.usage) yield { usage: event.usage };
    }
  }
}
