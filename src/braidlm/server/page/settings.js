// What the user chose, remembered by the browser.

const NUMBERS = { temperature: "temperature", "top-p": "top_p", "max-tokens": "max_tokens", seed: "seed" };
const NAMES = [...Object.keys(NUMBERS), "stops", "system"];
const field = (name) => document.getElementById(name);

for (const name of NAMES) {
  const kept = localStorage.getItem(`braidlm-${name}`);
  if (kept !== null) field(name).value = kept;
  field(name).addEventListener("change", () => localStorage.setItem(`braidlm-${name}`, field(name).value));
}

/** The first setting that cannot be used as it is, or undefined. */
export function wrongSetting() {
  return NAMES.map(field).find((input) => !input.checkValidity());
}

/** How answers are to be written; what is left empty is left to the server. */
export function sampling() {
  const numbers = Object.entries(NUMBERS).map(([name, key]) => [key, field(name).valueAsNumber]);
  const stop = field("stops").value.split("\n").filter((text) => text !== "");
  return {
    ...Object.fromEntries(numbers.filter(([, value]) => Number.isFinite(value))),
    ...(stop.length > 0 && { stop }),
  };
}

/** The messages that a new conversation begins with. */
export function beginning() {
  const content = field("system").value.trim();
  return content ? [{ role: "system", content }] : [];
}
