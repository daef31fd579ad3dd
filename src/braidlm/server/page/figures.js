// What an answer cost, and what the conversation's state takes beside that of a transformer.

const element = (id) => document.getElementById(id);

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** Figures of one answer, from the moment it is asked for. */
export class Figures {
  #begun = performance.now();
  #first = null;
  #pieces = 0;

  /** A piece of text has come, which is about a token. */
  piece() {
    this.#pieces += 1;
    this.#first ??= performance.now();
    element("figures").hidden = false;
    element("first").textContent = `${((this.#first - this.#begun) / 1000).toFixed(2)} s`;
    this.#speed(this.#pieces);
  }

  /** The answer has ended. */
  end(usage, state) {
    if (this.#first !== null) this.#speed(usage.completion_tokens);
    const cost = usage.prompt_tokens_details;
    element("prompt").textContent =
      `${cost.cached_tokens} cached, ${cost.replayed_tokens} replayed, ${cost.computed_tokens} computed`;
    element("prompt").title = cost.why;
    showState(state, usage.total_tokens);
  }

  #speed(tokens) {
    const seconds = (performance.now() - this.#first) / 1000;
    element("speed").textContent = tokens > 1 && seconds > 0 ? `${((tokens - 1) / seconds).toFixed(1)} tokens/s` : "…";
  }
}

/** The two bars, for a conversation of so many tokens. */
export function showState(state, tokens) {
  const own = state.fixed_bytes + state.bytes_per_token * tokens;
  const other = state.transformer_bytes_per_token * tokens;
  const most = Math.max(own, other, 1);
  for (const [name, count] of [["own", own], ["other", other]]) {
    element(name).value = count / most;
    element(`${name}-bytes`).textContent = bytes(count);
  }
  element("figures").hidden = tokens === 0;
}
