// What an answer cost, and what the conversation's state takes beside that of a transformer.

const element = (id) => document.getElementById(id);
const ENDS = { stop: "at its end", length: "at the limit of tokens", tool_calls: "with a call", stopped: "stopped" };

const last = new Map(); // of each conversation: the metrics of its last answer, while the page is open

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** Metrics of one answer, from the moment it is asked for. They are shown while `isOpen()`: on their conversation. */
export class AnswerMetrics {
  #begun = performance.now();
  #first = null;
  #chunks = 0;
  #shown = { speed: "…", first: "", prompt: "", why: "", end: "" };
  #isOpen;

  constructor(isOpen) {
    this.#isOpen = isOpen;
    showAnswer(null);
  }

  /** A chunk of text has come, which is about a token. */
  chunk() {
    this.#chunks += 1;
    this.#first ??= performance.now();
    this.#shown.first = `${((this.#first - this.#begun) / 1000).toFixed(2)} s`;
    this.#speed(this.#chunks);
    this.#show();
  }

  /** The answer has ended: what it cost, if that was told, and why. */
  end(session, usage, reason) {
    if (usage) {
      if (this.#first !== null) this.#speed(usage.completion_tokens);
      const cost = usage.prompt_tokens_details;
      this.#shown.prompt =
        `${cost.cached_tokens} cached, ${cost.recomputed_tokens} recomputed, ${cost.computed_tokens} computed`;
      this.#shown.why = cost.why;
    }
    this.#shown.end = ENDS[reason] ?? "";
    if (this.#first !== null) last.set(session, this.#shown);
    this.#show();
  }

  #show() {
    if (this.#isOpen()) showAnswer(this.#shown);
  }

  #speed(tokens) {
    const seconds = (performance.now() - this.#first) / 1000;
    this.#shown.speed = tokens > 1 && seconds > 0 ? `${((tokens - 1) / seconds).toFixed(1)} tokens/s` : "…";
  }
}

/** The metrics of one answer, or none. */
function showAnswer(shown) {
  element("answer-metrics").hidden = shown === null;
  if (shown === null) return;
  for (const name of ["speed", "first", "prompt", "end"]) {
    element(name).textContent = shown[name];
    element(name).parentElement.hidden = !shown[name];
  }
  element("prompt").title = shown.why;
  element("metrics").hidden = false;
}

/** What is known of a stored conversation of so many tokens: the two bars, and its last answer. */
export function showConversation(session, state, tokens) {
  const own = state.fixed_bytes + state.bytes_per_token * tokens;
  const other = state.transformer_bytes_per_token * tokens;
  const most = Math.max(own, other, 1);
  for (const [name, count] of [["own", own], ["other", other]]) {
    element(name).value = count / most;
    element(`${name}-bytes`).textContent = bytes(count);
  }
  showAnswer(last.get(session) ?? null);
  element("metrics").hidden = tokens === 0;
}
