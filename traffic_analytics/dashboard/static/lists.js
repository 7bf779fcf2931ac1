// Describe the lists of a site's page: pipe, column, and how a value is shown.

import { formatCountry } from "./format.js";

/**
 * A list of values with their visitors. A click on a value filters by `filter`, which is also the column of the pipe.
 * @typedef {object} List
 * @property {string} name
 * @property {string} pipe
 * @property {string} filter
 * @property {(value: string) => string} show
 * @property {string} empty
 */

/** @param {string} name */
const orElse = (name) => (/** @type {string} */ value) => value || name;

/** @param {string} value */
const capitalized = (value) => (value ? value[0]?.toUpperCase() + value.slice(1) : "Unknown");

// Maps: values of hits may be names such as "constructor", which every object has.
const SYSTEMS = new Map([
  ["macos", "macOS"],
  ["ios", "iOS"],
]);

const DEVICES = new Map([
  ["mobile-android", "Android"],
  ["mobile-ios", "iPhone or iPad"],
]);

/** @type {List[]} */
const CAMPAIGNS = [
  ["Campaigns", "campaign"],
  ["Sources", "source"],
  ["Mediums", "medium"],
  ["Contents", "content"],
  ["Terms", "term"],
].map(([name, column]) => ({
  name: name ?? "",
  pipe: `api_top_utm_${column}s`,
  filter: `utm_${column}`,
  show: orElse("None"),
  empty: `No visit came by a link with utm_${column}.`,
}));

/**
 * Return a card with one list.
 * @param {string} name
 * @param {string} pipe
 * @param {string} filter
 * @param {(value: string) => string} show
 */
function single(name, pipe, filter, show) {
  return { id: name.toLowerCase(), lists: [{ name, pipe, filter, show, empty: "Nothing in this range." }] };
}

/** Cards of a site's page, each with the lists between which its buttons choose. @type {ReadonlyArray<{id: string, lists: List[]}>} */
export const CARDS = [
  single("Pages", "api_top_pages", "pathname", orElse("/")),
  single("Sources", "api_top_sources", "source", orElse("Direct")),
  single("Locations", "api_top_locations", "location", formatCountry),
  { id: "campaigns", lists: CAMPAIGNS },
  single("Devices", "api_top_devices", "device", (value) => DEVICES.get(value) ?? capitalized(value)),
  single("Browsers", "api_top_browsers", "browser", capitalized),
  single("Systems", "api_top_os", "os", (value) => SYSTEMS.get(value) ?? capitalized(value)),
];

/** Filters whose values are shown as in their list. @type {Record<string, (value: string) => string>} */
export const SHOWN = Object.fromEntries(CARDS.flatMap(({ lists }) => lists.map((list) => [list.filter, list.show])));
