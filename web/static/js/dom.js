// Elements without markup in strings: nothing that a stranger named is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes, listeners by `onclick` and the like, children that are nodes or texts. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export const byId = (id) => document.getElementById(id);

/** Tell it to those who hear the page. */
export function announce(text) { byId("status").textContent = text; }

/** Show what is wrong, until it is closed or something else is. */
export function complain(text) {
  const notice = h("div", { class: "card mb-4 flex items-start gap-3 border-red-700 dark:border-red-400" },
    h("p", { class: "grow font-medium text-red-800 dark:text-red-200" }, text),
    h("button", { type: "button", class: "button", onclick: () => notice.remove() }, "Close"));
  byId("notice").replaceChildren(notice);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
