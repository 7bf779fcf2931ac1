// Turn the name of a range into days, and find the period before.

const DAY_MS = 86_400_000;
const EARLIEST_DAYS = 1000;

/** Ranges as Ghost has them, and yesterday. @type {ReadonlyArray<{id: string, name: string}>} */
export const RANGES = [
  { id: "today", name: "Today" },
  { id: "yesterday", name: "Yesterday" },
  { id: "7d", name: "Last 7 days" },
  { id: "30d", name: "Last 30 days" },
  { id: "90d", name: "Last 90 days" },
  { id: "year", name: "Year to date" },
  { id: "12m", name: "Last 12 months" },
  { id: "all", name: "All time" },
  { id: "custom", name: "Custom" },
];

export const DEFAULT_RANGE = "30d";
export const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone || "Etc/UTC";

/** @typedef {{from: string, to: string}} Days */

/** Return today's date in the reader's time zone as YYYY-MM-DD. */
export function today() {
  const now = new Date();
  return new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString().slice(0, 10);
}

/**
 * Return the date `count` days after another.
 * @param {string} date
 * @param {number} count
 */
export function addDays(date, count) {
  return new Date(Date.parse(date) + count * DAY_MS).toISOString().slice(0, 10);
}

/**
 * Count the days of a range, first and last included.
 * @param {Days} days
 */
export function lengthOf(days) {
  return Math.round((Date.parse(days.to) - Date.parse(days.from)) / DAY_MS) + 1;
}

/**
 * Return the days of a range.
 * @param {string} range
 * @param {string} from
 * @param {string} to
 * @returns {Days}
 */
export function daysOf(range, from, to) {
  const last = today();
  switch (range) {
    case "today":
      return { from: last, to: last };
    case "yesterday":
      return { from: addDays(last, -1), to: addDays(last, -1) };
    case "7d":
      return { from: addDays(last, -6), to: last };
    case "90d":
      return { from: addDays(last, -89), to: last };
    case "year":
      return { from: `${last.slice(0, 4)}-01-01`, to: last };
    case "12m":
      return { from: addDays(last, -364), to: last };
    case "all":
      return { from: addDays(last, -EARLIEST_DAYS), to: last };
    case "custom":
      return from <= to ? { from, to } : { from: to, to: from };
    default:
      return { from: addDays(last, -29), to: last };
  }
}

/**
 * Return the period of the same length before a range; null before all time.
 * @param {string} range
 * @param {Days} days
 * @returns {Days | null}
 */
export function daysBefore(range, days) {
  if (range === "all") {
    return null;
  }
  const length = lengthOf(days);
  return { from: addDays(days.from, -length), to: addDays(days.from, -1) };
}
