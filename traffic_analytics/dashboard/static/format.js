// Write numbers, durations, dates and names in the reader's language.

const number = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(undefined, { style: "percent" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const fullDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });
const countries = new Intl.DisplayNames([...navigator.languages, "en"], { type: "region" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** @param {number} value */
export const formatNumber = (value) => number.format(value);

/** @param {number} value */
export const formatLarge = (value) => (value < 10_000 ? number.format(value) : compact.format(value));

/** @param {number} value */
export const formatPercent = (value) => percent.format(value);

/** @param {number} seconds */
export function formatDuration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) {
    return `${whole}s`;
  }
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}m ${whole % 60}s` : `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}

/**
 * Write the label of a row of the chart: a day, or an hour as "YYYY-MM-DD HH:00:00".
 * @param {string} label
 */
export function formatSlot(label) {
  return label.length > 10 ? label.slice(11, 16) : day.format(new Date(label));
}

/** @param {string} label */
export function formatTick(label) {
  if (label === "") {
    return "";
  }
  return label.length > 10 ? label.slice(11, 16) : shortDay.format(new Date(label));
}

/** @param {{from: string, to: string}} days */
export function formatDays({ from, to }) {
  return from === to ? fullDay.format(new Date(from)) : fullDay.formatRange(new Date(from), new Date(to));
}

/** @param {string} code */
export function formatCountry(code) {
  if (!/^[A-Z]{2}$/.test(code)) {
    return code || "Unknown";
  }
  return countries.of(code) ?? code;
}

/**
 * Write a time relative to now, such as "3 minutes ago".
 * @param {string} time
 */
export function formatAgo(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (seconds < 60) {
    return "just now";
  }
  if (seconds < 3600) {
    return ago.format(-Math.floor(seconds / 60), "minute");
  }
  if (seconds < 86_400) {
    return ago.format(-Math.floor(seconds / 3600), "hour");
  }
  return ago.format(-Math.floor(seconds / 86_400), "day");
}

/**
 * Return the change against the period before as text; null if nothing can be compared.
 * @param {number} current
 * @param {number} before
 */
export function formatChange(current, before) {
  if (before === 0) {
    return null;
  }
  const change = (current - before) / before;
  return { text: percent.format(Math.abs(change)), sign: Math.sign(Math.round(change * 100)) };
}
