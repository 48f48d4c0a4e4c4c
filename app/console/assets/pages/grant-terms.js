// @ts-check
/** The fields for a grant's end and reason. */

import { button, el, field, find } from "../lib/dom.js";
import { localClock, localDate, time } from "../lib/times.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** A date alone means the whole day. */
const LAST_MINUTE = "23:59";
/** The hour at which "today" ends for most people who work. */
const EVENING = 18;

/**
 * Create the fields, filled in with what the grant has now.
 *
 * @param {Api.GrantTerms} [now]
 */
export function termsFields(now = {}) {
  const end = now.expires_at ? new Date(now.expires_at) : null;
  const date = field("Date", { name: "date", type: "date", input: tell });
  const clock = field("Time", { name: "time", type: "time", input: tell });
  const shown = el("p", { class: "hint", role: "status" });
  const dateInput = find("input", HTMLInputElement, date);
  const clockInput = find("input", HTMLInputElement, clock);

  /** @param {Date | null} moment */
  function set(moment) {
    dateInput.value = moment ? localDate(moment) : "";
    clockInput.value = moment ? localClock(moment) : "";
    tell();
  }

  function tell() {
    const moment = dateInput.value && endOf(dateInput.value, clockInput.value);
    shown.replaceChildren(...(moment ? ["Ends ", time(moment.toISOString())] : ["Never ends"]));
  }

  set(end);
  const presets = el("div", { class: "presets" }, ...presetButtons(set));
  const ends = el("fieldset", {}, el("legend", {}, "End"), presets, date, clock, shown);
  const reason = { name: "reason", maxlength: 500, value: now.reason };
  return [ends, field("Reason", reason, "Stored with the grant.")];
}

/** @param {(moment: Date | null) => void} set */
function presetButtons(set) {
  const evening = new Date();
  evening.setHours(EVENING, 0, 0, 0);
  const inAWeek = () => new Date(Date.now() + 7 * DAY);
  return [
    button("1 hour", () => set(new Date(nextMinute() + HOUR))),
    evening.getTime() > Date.now() && button(`Today ${localClock(evening)}`, () => set(evening)),
    button("7 days", () => set(inAWeek())),
    button("Never", () => set(null)),
  ];
}

/** The fields show no seconds: an hour must not become less. */
function nextMinute() {
  return Math.ceil(Date.now() / MINUTE) * MINUTE;
}

/**
 * @param {string} date
 * @param {string} [clock]
 */
function endOf(date, clock) {
  return new Date(`${date}T${clock || LAST_MINUTE}`);
}

/**
 * What was entered. Throws where that is no end.
 *
 * @param {Record<string, string>} values
 * @param {Api.GrantTerms} [before]
 * @returns {Api.GrantTerms}
 */
export function termsOf({ date = "", time = "", reason = "" }, before = {}) {
  if (time && !date) throw new Error("Choose a date too, or leave the time empty.");
  return { expires_at: endIn(date, time, before.expires_at), reason: reason || null };
}

/**
 * @param {string} date
 * @param {string} clock
 * @param {string | null} [before]
 */
function endIn(date, clock, before) {
  if (!date) return null;
  const old = before && new Date(before);
  // An end that the user left alone keeps its seconds, which the fields don't show.
  if (old && localDate(old) === date && localClock(old) === clock) return before;
  return endOf(date, clock).toISOString();
}
