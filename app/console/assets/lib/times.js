// @ts-check
/** Times, as the reader's own clock and calendar show them. */

import { el } from "./dom.js";

const WITH_SECONDS = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium",
  timeStyle: "medium",
});
const TO_THE_MINUTE = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium",
  timeStyle: "short",
});
const WITH_ZONE = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d.*(Z|[+-]\d\d:\d\d)$/;

/**
 * Create an element that shows a time in the reader's own time zone.
 *
 * @param {string} iso
 */
export function time(iso, { seconds = false } = {}) {
  const moment = new Date(iso);
  const text = (seconds ? WITH_SECONDS : TO_THE_MINUTE).format(moment);
  return el("time", { datetime: iso, title: WITH_ZONE.format(moment) }, text);
}

/**
 * Whether this is a time as the API writes it.
 *
 * @param {unknown} value
 * @returns {value is string}
 */
export function isTime(value) {
  return typeof value === "string" && MOMENT.test(value) && !Number.isNaN(Date.parse(value));
}

/**
 * The time by the reader's clock, with its distance from UTC: "2027-01-31T18:00:00+01:00".
 *
 * @param {Date} moment
 */
export function localIso(moment) {
  const offset = -moment.getTimezoneOffset();
  const hours = twoDigits(Math.floor(Math.abs(offset) / 60));
  const minutes = twoDigits(Math.abs(offset) % 60);
  const clock = [moment.getHours(), moment.getMinutes(), moment.getSeconds()];
  const zone = `${offset < 0 ? "-" : "+"}${hours}:${minutes}`;
  return `${localDate(moment)}T${clock.map(twoDigits).join(":")}${zone}`;
}

/**
 * The value of a date field.
 *
 * @param {Date} moment
 */
export function localDate(moment) {
  const year = String(moment.getFullYear()).padStart(4, "0");
  return `${year}-${twoDigits(moment.getMonth() + 1)}-${twoDigits(moment.getDate())}`;
}

/**
 * The value of a time field.
 *
 * @param {Date} moment
 */
export function localClock(moment) {
  return `${twoDigits(moment.getHours())}:${twoDigits(moment.getMinutes())}`;
}

/**
 * When this day begins by the reader's clock, or another so many days later.
 *
 * @param {string} date  The value of a date field.
 * @param {number} [later]
 */
export function startOfDay(date, later = 0) {
  const moment = new Date(`${date}T00:00`);
  moment.setDate(moment.getDate() + later);
  return moment;
}

/** @param {number} number */
function twoDigits(number) {
  return String(number).padStart(2, "0");
}
