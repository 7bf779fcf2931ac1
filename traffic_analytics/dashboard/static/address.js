// Read and write what the page shows in its URL, so that it can be bookmarked, shared and undone with Back.

import { DEFAULT_RANGE, RANGES, today } from "./ranges.js";

/** Filters by their parameter, with the name that the reader sees. @type {Record<string, string>} */
export const FILTERS = {
  pathname: "Page",
  source: "Source",
  location: "Location",
  device: "Device",
  browser: "Browser",
  os: "System",
  utm_campaign: "Campaign",
  utm_source: "UTM source",
  utm_medium: "UTM medium",
  utm_content: "UTM content",
  utm_term: "UTM term",
};

/**
 * What the page shows. `site` is null on the page of all blogs.
 * @typedef {object} Address
 * @property {string | null} site
 * @property {boolean} isHealth
 * @property {string} range
 * @property {string} from
 * @property {string} to
 * @property {string} metric
 * @property {Record<string, string>} filters
 */

const DATE = /^\d{4}-\d{2}-\d{2}$/;

/** @returns {Address} */
export function readAddress() {
  const query = new URLSearchParams(location.search);
  /** @type {Record<string, string>} */
  const filters = {};
  for (const name of Object.keys(FILTERS)) {
    const value = query.get(name);
    if (value !== null) {
      filters[name] = value;
    }
  }
  const from = readDate(query.get("from"));
  const to = readDate(query.get("to"));
  const range = query.get("range") ?? DEFAULT_RANGE;
  return {
    site: query.get("site"),
    isHealth: query.get("view") === "health",
    range: RANGES.some((each) => each.id === range) ? range : DEFAULT_RANGE,
    from,
    to,
    metric: query.get("metric") ?? "visits",
    filters,
  };
}

/**
 * Return the query of an address; a share link's own site is left out.
 * @param {Address} address
 * @param {boolean} isShared
 */
export function writeAddress(address, isShared) {
  const query = new URLSearchParams();
  if (address.site !== null && !isShared) {
    query.set("site", address.site);
  }
  if (address.range !== DEFAULT_RANGE) {
    query.set("range", address.range);
  }
  if (address.range === "custom") {
    query.set("from", address.from);
    query.set("to", address.to);
  }
  if (address.metric !== "visits") {
    query.set("metric", address.metric);
  }
  for (const [name, value] of Object.entries(address.filters)) {
    query.set(name, value);
  }
  return `?${query}`;
}

/** @param {string | null} text */
function readDate(text) {
  const date = new Date(text !== null && DATE.test(text) ? text : Number.NaN);
  const exists = !Number.isNaN(date.getTime()) && date.toISOString().slice(0, 10) === text;
  return exists ? text : today();
}
