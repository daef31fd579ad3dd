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

/** The server is gone, or does not answer. */
export class Lost extends Refusal {
  constructor(message = "The server cannot be reached; this page will say when it is back.") {
    super(0, message);
  }
}

const PATIENCE_MS = 60_000;

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
    throw error.name === "TimeoutError" ? new Lost("The server does not answer.") : new Lost();
  }
  if (reply.ok) return reply;
  const told = await reply.json().catch(() => null);
  throw new Refusal(reply.status, told?.error?.message ?? `The server answered ${reply.status}.`);
}

async function json(method, path, body) {
  const reply = await request(method, path, body, AbortSignal.timeout(PATIENCE_MS));
  return reply.json().catch(() => {
    throw new Lost();
  });
}

const at = (id) => `/v1/sessions/${encodeURIComponent(id)}`;

export const ready = () => json("GET", "/ready");
export const info = () => json("GET", "/info");
export const sessions = async () => (await json("GET", "/v1/sessions")).data;
export const createSession = (messages) => json("POST", "/v1/sessions", { messages });
export const session = (id) => json("GET", at(id));
export const deleteSession = (id) => json("DELETE", at(id));
export const forkSession = (id, keep) => json("POST", `${at(id)}/fork`, { keep });

/** What has come of a stream; `Lost` if it breaks off. */
async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Lost();
  }
}

/**
 * Asks for an answer; yields {reasoning} and {text} as they are written, and at the end {reason} and {usage}.
 * Throws `Lost` if the stream ends before the answer does: a server that is killed may close it in good order.
 */
export async function* answer(body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const reply = await request("POST", "/v1/chat/completions", asked, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await read(reader);
    if (done) throw new Lost();
    const lines = (held + value).split("\n");
    held = lines.pop();
    for (const line of lines) {
      if (line.trimEnd() === "data: [DONE]") return;
      if (!line.startsWith("data: {")) continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refusal(500, event.error.message);
      const { delta, finish_reason: reason } = event.choices[0] ?? {};
      if (delta?.reasoning_content) yield { reasoning: delta.reasoning_content };
      if (delta?.content) yield { text: delta.content };
      if (reason) yield { reason };
      if (event.usage) yield { usage: event.usage };
    }
  }
}
