// Show all blogs.

import { grantFor } from "./access.js";
import { changeOf } from "./change.js";
import { h, refill } from "./elements.js";
import { formatAgo, formatChange, formatNumber } from "./format.js";
import { whileVisible } from "./live.js";
import { errorNotice, staleNotice } from "./notices.js";
import { PipeError, queryPipe } from "./pipes.js";
import { timezone } from "./ranges.js";
import { sparkline } from "./sparkline.js";

const LIVE_SECONDS = 5;
const SEARCH_FROM = 6;

/** @typedef {import("./pipes.js").Row} Row */

/** Columns by which the blogs can be sorted. @type {ReadonlyArray<{id: string, name: string, value: (row: Row) => string | number}>} */
const COLUMNS = [
  { id: "host", name: "Blog", value: nameOf },
  { id: "active", name: "Now", value: (row) => row.active_visitors },
  { id: "today", name: "Today", value: (row) => row.visits_today },
  { id: "week", name: "7 days", value: (row) => row.visits_week },
  { id: "trend", name: "Change", value: (row) => row.visits_week - row.visits_week_before },
  { id: "days", name: "14 days", value: (row) => row.visits_week + row.visits_week_before },
  { id: "last", name: "Last hit", value: (row) => Date.parse(row.last_hit) },
];

export class SitesPage {
  constructor() {
    this.notices = h("div", {});
    this.search = h("input", {
      type: "search",
      placeholder: "Search blogs",
      "aria-label": "Search blogs",
      oninput: () => this.#show(),
    });
    this.found = h("p", { class: "quiet", role: "status" });
    this.table = h("table", { class: "blogs" });
    this.content = h("div", {});
    this.element = h(
      "div",
      { class: "sites" },
      h("div", { class: "site-head" }, h("div", {}, h("h1", { tabindex: -1 }, "Blogs"), this.found), this.search),
      this.notices,
      this.content,
    );
    this.search.hidden = true;
    this.end = () => {};
  }

  /** @type {Row[]} */
  #rows = [];
  #shown = "";
  #sortedBy = "week";
  #isAscending = false;

  start() {
    document.title = "Blogs · Traffic Analytics";
    this.end = whileVisible(() => this.#load());
  }

  /** Load the rows; return the seconds until they are loaded again, or null. */
  async #load() {
    try {
      const { rows, staleSeconds } = await queryPipe("api_sites", null, { timezone });
      this.notices.replaceChildren(...(staleSeconds ? [staleNotice(staleSeconds)] : []));
      // Rows that say the same stay: a selection or a screen reader's place in them would be lost.
      const content = JSON.stringify(rows.map((row) => [row, formatAgo(row.last_hit)]));
      if (content !== this.#shown) {
        this.#shown = content;
        this.#rows = rows;
        this.search.hidden = rows.length < SEARCH_FROM;
        this.#show();
      }
      return LIVE_SECONDS;
    } catch (error) {
      if (error instanceof PipeError && error.isMissing) {
        await this.#showWithoutList();
        return null;
      }
      this.notices.replaceChildren(errorNotice(error, () => this.#load()));
      return LIVE_SECONDS;
    } finally {
      this.element.dataset.loaded = "true";
    }
  }

  async #showWithoutList() {
    const { sites } = await grantFor(null);
    const open = h(
      "form",
      { class: "notice", method: "get" },
      h(
        "p",
        {},
        "Tinybird does not list its blogs. Enter the UUID of a site: Ghost shows it in the source of a page as tb_site_uuid.",
      ),
      h(
        "label",
        {},
        "Site UUID ",
        h("input", { name: "site", required: true, pattern: "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}" }),
      ),
      h("button", { type: "submit", class: "primary" }, "Open"),
    );
    const links = sites.map((site) => h("li", {}, h("a", { href: `?site=${site}` }, site)));
    this.content.replaceChildren(
      open,
      ...(links.length ? [h("h2", {}, "Sites of ALLOWED_SITES"), h("ul", {}, ...links)] : []),
    );
  }

  /** @param {string} id */
  #sortBy(id) {
    this.#isAscending = this.#sortedBy === id ? !this.#isAscending : id === "host";
    this.#sortedBy = id;
    this.#show();
  }

  #show() {
    if (this.#rows.length === 0) {
      this.found.textContent = "";
      this.content.replaceChildren(
        h(
          "div",
          { class: "notice" },
          h("p", {}, h("strong", {}, "Waiting for the first hit.")),
          h("p", {}, "Open a page of a blog that sends its hits here, in a private window. It appears by itself."),
        ),
      );
      return;
    }
    const words = this.search.value.trim().toLowerCase();
    const column = COLUMNS.find(({ id }) => id === this.#sortedBy);
    const direction = this.#isAscending ? 1 : -1;
    const rows = this.#rows.filter((row) => `${row.host} ${row.site_uuid}`.toLowerCase().includes(words));
    if (column) {
      rows.sort((a, b) => direction * compare(column.value(a), column.value(b)));
    }
    const heads = COLUMNS.map(({ id, name }) => {
      const sort = id === this.#sortedBy ? (this.#isAscending ? "ascending" : "descending") : null;
      const mark = sort === null ? "" : sort === "ascending" ? " ↑" : " ↓";
      return h(
        "th",
        { scope: "col", "aria-sort": sort, class: id },
        h(
          "button",
          { type: "button", "data-key": id, onclick: () => this.#sortBy(id) },
          name,
          h("span", { "aria-hidden": "true" }, mark),
        ),
      );
    });
    const all = `${formatNumber(this.#rows.length)} ${this.#rows.length === 1 ? "blog" : "blogs"}`;
    const found = rows.length === this.#rows.length ? all : `${formatNumber(rows.length)} of ${all}`;
    if (this.found.textContent !== found) {
      this.found.textContent = found;
    }
    refill(
      this.table,
      h("caption", { class: "unseen" }, "Blogs with their visitors"),
      h("thead", {}, h("tr", {}, ...heads)),
      h("tbody", {}, ...rows.map(siteRow)),
    );
    if (!this.content.contains(this.table)) {
      this.content.replaceChildren(
        h("div", { class: "card scroll", role: "region", "aria-label": "Blogs", tabindex: 0 }, this.table),
      );
    }
  }
}

/** @param {Row} row */
function siteRow(row) {
  const change = formatChange(row.visits_week, row.visits_week_before);
  return h(
    "tr",
    { "data-site": row.site_uuid },
    h(
      "th",
      { scope: "row", class: "host" },
      h(
        "a",
        { href: `?site=${encodeURIComponent(row.site_uuid)}`, "data-key": row.site_uuid, title: nameOf(row) },
        nameOf(row),
      ),
    ),
    h(
      "td",
      { class: "active" },
      h("span", { class: row.active_visitors ? "dot on" : "dot", "aria-hidden": "true" }),
      formatNumber(row.active_visitors),
    ),
    h("td", { class: "today" }, formatNumber(row.visits_today)),
    h("td", { class: "week" }, formatNumber(row.visits_week)),
    h("td", { class: "trend" }, change === null ? h("span", { class: "quiet" }, "–") : changeOf(change)),
    h("td", { class: "days" }, sparkline(row.daily_visits)),
    h("td", { class: "last" }, h("time", { datetime: row.last_hit }, formatAgo(row.last_hit))),
  );
}

/** @param {Row} row */
function nameOf(row) {
  return row.host || row.site_uuid;
}

/**
 * @param {string | number} a
 * @param {string | number} b
 */
function compare(a, b) {
  return typeof a === "string" && typeof b === "string" ? a.localeCompare(b) : Number(a) - Number(b);
}
