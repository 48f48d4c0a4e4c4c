// @ts-check
/** Elements. No module parses HTML: text from the API only ever becomes a text node. */

/**
 * @typedef {string | number | boolean | null | undefined | EventListener} Attribute
 * @typedef {Record<string, Attribute>} Attributes
 * @typedef {Node | string | false | null | undefined} Child
 */

/**
 * Create an element. A function listens to the event of its name; other values are attributes.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} attributes
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value || value === 0 || value === "") element.setAttribute(name, String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/**
 * Return the one element that must be there. Throws where it is missing.
 *
 * @template {Element} E
 * @param {string} selector
 * @param {new () => E} type
 * @param {ParentNode} root
 */
export function find(selector, type, root = document) {
  const found = root.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`The page has no ${selector}.`);
  return found;
}

/**
 * Create a button that calls a function and submits nothing.
 *
 * @param {string} text
 * @param {EventListener} click
 * @param {Attributes} attributes
 */
export function button(text, click, attributes = {}) {
  return el("button", { type: "button", click, ...attributes }, text);
}

/**
 * Create an input with its label.
 *
 * @param {string} label
 * @param {Attributes} attributes
 * @param {string} [hint]
 */
export function field(label, attributes, hint) {
  const input = el("input", { autocomplete: "off", ...attributes });
  return labelled(label, input, hint);
}

/**
 * Create a text of several lines with its label.
 *
 * @param {string} label
 * @param {Attributes} attributes
 * @param {string} [text]
 * @param {string} [hint]
 */
export function area(label, attributes, text, hint) {
  return labelled(label, el("textarea", attributes, text), hint);
}

/**
 * Create a list of options with its label.
 *
 * @param {string} label
 * @param {Attributes} attributes
 * @param {{name: string, text: string}[]} options
 */
export function choice(label, attributes, options) {
  const chosen = attributes.value ?? "";
  const list = options.map(({ name, text }) => new Option(text, name, false, name === chosen));
  return labelled(label, el("select", attributes, ...list));
}

let controls = 0;

/**
 * Put a control under its label.
 *
 * @param {string} label
 * @param {HTMLElement} control
 * @param {string} [hint]
 */
export function labelled(label, control, hint) {
  control.id = `control-${++controls}`;
  const note = hint && el("small", { id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control, note);
}

/**
 * What the user entered into a form, by the name of each field.
 *
 * @param {HTMLFormElement} form
 * @returns {Record<string, string>}
 */
export function valuesOf(form) {
  return Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value)]));
}

/**
 * Create a short label for a kind or a state.
 *
 * @param {string} text
 * @param {"" | "good" | "danger"} style
 */
export function badge(text, style = "") {
  return el("span", { class: `badge ${style}` }, text);
}

/**
 * Create a section of a page, with a heading and the buttons beside it. It can be focused by a
 * script: when the button that was used is gone.
 *
 * @param {string} heading
 * @param {Child[]} actions
 * @param {...Child} children
 */
export function section(heading, actions, ...children) {
  const id = `section-${heading.toLowerCase().replaceAll(" ", "-")}`;
  const title = el("h2", { id: `${id}-title` }, heading);
  const top = el("div", { class: "top" }, title, ...actions);
  return el("section", { id, tabindex: -1, "aria-labelledby": title.id }, top, ...children);
}
