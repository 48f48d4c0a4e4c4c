/** Elements. Text only ever becomes text: nothing here, or anywhere, is parsed as HTML. */

/**
 * An element: functions listen to the event they are named after, other values are attributes.
 *
 * @param {string} tag
 * @param {Object<string, string | number | boolean | null | undefined | EventListener>} attributes
 * @param {...(Node | string | false | null | undefined)} children
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value || value === 0) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter(Boolean));
  return element;
}

/** A button that does something here. */
export function button(text, click, attributes = {}) {
  return el("button", { type: "button", click, ...attributes }, text);
}

/** An input with its label. */
export function field(label, attributes, hint) {
  const input = el("input", { autocomplete: "off", ...attributes });
  return labelled(label, input, hint);
}

/** A choice with its label; `options` are [value, text]. */
export function choice(label, attributes, options) {
  const chosen = attributes.value ?? "";
  const list = options.map(([value, text]) => new Option(text, value, false, value === chosen));
  return labelled(label, el("select", attributes, ...list));
}

let controls = 0;

function labelled(label, control, hint) {
  control.id = `control-${++controls}`;
  const note = hint && el("small", { id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control, note);
}

/** A small word that says what kind or in which state something is. */
export function badge(text, kind = "") {
  return el("span", { class: `badge ${kind}` }, text);
}

/** A section of a page, with its heading and what can be done there. */
export function section(heading, actions, ...children) {
  const top = el("div", { class: "top" }, el("h2", {}, heading), ...actions);
  return el("section", {}, top, ...children);
}

const LONG = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const SHORT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A moment, in the reader's own time. */
export function moment(iso, { seconds = false } = {}) {
  const text = (seconds ? LONG : SHORT).format(new Date(iso));
  return el("time", { datetime: iso, title: iso }, text);
}
