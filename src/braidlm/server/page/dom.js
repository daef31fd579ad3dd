// Elements made from data. Text becomes text nodes, never markup.

/** An element of a kind with properties and children; a child is a node or a text. */
export function made(kind, properties, ...children) {
  const element = Object.assign(document.createElement(kind), properties);
  element.append(...children);
  return element;
}

/** A button with a word on it, and a label for those who hear it. */
export function button(word, label, act) {
  const element = made("button", { type: "button", textContent: word });
  element.setAttribute("aria-label", label);
  element.addEventListener("click", act);
  return element;
}

/** Puts `nodes` below `parent`, but leaves those alone that are there already: what is selected in them stays so. */
export function update(parent, nodes) {
  nodes.forEach((node, index) => {
    const old = parent.childNodes[index];
    if (!old) parent.append(node);
    else if (!old.isEqualNode(node)) old.replaceWith(node);
  });
  while (parent.childNodes.length > nodes.length) parent.lastChild.remove();
}
