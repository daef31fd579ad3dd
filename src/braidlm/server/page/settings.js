// What the user chose, remembered by the browser.

const NAMES = ["temperature", "max-tokens", "system"];
const field = (name) => document.getElementById(name);

for (const name of NAMES) {
  const kept = localStorage.getItem(`braidlm-${name}`);
  if (kept !== null) field(name).value = kept;
  field(name).addEventListener("change", () => localStorage.setItem(`braidlm-${name}`, field(name).value));
}

/** How answers are to be written; what is left empty is left to the server. */
export function sampling() {
  const [temperature, most] = [field("temperature"), field("max-tokens")].map((input) => input.valueAsNumber);
  return {
    ...(Number.isFinite(temperature) && { temperature }),
    ...(Number.isFinite(most) && { max_tokens: most }),
  };
}

/** The messages that a new conversation begins with. */
export function beginning() {
  const content = field("system").value.trim();
  return content ? [{ role: "system", content }] : [];
}
