// Show lists of values as a card with a table, and let the reader choose between them.

import { saveCsv } from "./csv.js";
import { h, refill } from "./elements.js";
import { formatNumber, formatPercent } from "./format.js";
import { worldMap } from "./map.js";
import { errorNotice } from "./notices.js";
import { PipeError } from "./pipes.js";

const FEW = 8;
const MOST = 500;

/** @typedef {import("./lists.js").List} List */
/** @typedef {import("./pipes.js").Row} Row */
/** @typedef {(pipe: string, more: Record<string, string>) => Promise<Row[]>} Query */

export class Card {
  /**
   * @param {string} id
   * @param {List[]} lists
   * @param {(filter: string, value: string) => void} onPick
   */
  constructor(id, lists, onPick) {
    this.id = id;
    this.lists = lists;
    this.onPick = onPick;
    this.isLong = false;
    /** @type {List} */
    this.list = /** @type {List} */ (lists[0]);
    this.head = h("div", { class: "card-head" });
    this.body = h("div", { class: "card-body" });
    this.element = h("section", { class: "card", id, "aria-label": this.list.name }, this.head, this.body);
    this.#fillHead();
  }

  /** @type {Query | null} */
  #query = null;
  /** @type {Row[]} */
  #rows = [];
  #run = 0;

  /** Show the names of the lists, of which buttons choose one if there are several. */
  #fillHead() {
    const names = this.lists.map((list) =>
      this.lists.length === 1
        ? h("h2", {}, list.name)
        : h(
            "button",
            {
              type: "button",
              class: "tab",
              "data-key": list.name,
              "aria-pressed": String(list === this.list),
              onclick: () => this.#choose(list),
            },
            list.name,
          ),
    );
    const save = h("button", { type: "button", class: "csv", "data-key": "csv", onclick: () => this.#save() }, "CSV");
    save.setAttribute("aria-label", `Download ${this.list.name} as CSV`);
    refill(this.head, h("div", { class: "tabs" }, ...names), save);
  }

  /** @param {List} list */
  #choose(list) {
    this.list = list;
    this.isLong = false;
    this.#fillHead();
    this.element.setAttribute("aria-label", list.name);
    if (this.#query !== null) {
      this.load(this.#query);
    }
  }

  /**
   * Load the chosen list.
   * @param {Query} query
   */
  async load(query) {
    this.#query = query;
    this.#run += 1;
    const run = this.#run;
    const list = this.list;
    this.body.setAttribute("aria-busy", "true");
    try {
      const rows = await query(list.pipe, { limit: String(MOST) });
      if (run === this.#run) {
        this.#rows = merge(rows, list.filter);
        await this.#show();
      }
    } catch (error) {
      if (run === this.#run) {
        this.#showFailure(error);
      }
    } finally {
      if (run === this.#run) {
        this.body.removeAttribute("aria-busy");
      }
    }
  }

  /** @param {unknown} error */
  #showFailure(error) {
    if (error instanceof PipeError && error.isMissing) {
      this.element.hidden = true;
    } else {
      this.body.replaceChildren(errorNotice(error, () => this.#query && this.load(this.#query)));
    }
  }

  async #show() {
    const list = this.list;
    if (this.#rows.length === 0) {
      this.body.replaceChildren(h("p", { class: "quiet" }, list.empty));
      return;
    }
    const total = this.#rows.reduce((sum, row) => sum + row.visits, 0);
    const most = Math.max(...this.#rows.map((row) => row.visits));
    const shown = this.isLong ? this.#rows : this.#rows.slice(0, FEW);
    const table = h(
      "table",
      { class: "list" },
      h("caption", { class: "unseen" }, `${list.name} by visitors`),
      h(
        "thead",
        { class: "unseen" },
        h(
          "tr",
          {},
          h("th", { scope: "col" }, list.name),
          h("th", { scope: "col" }, "Visitors"),
          h("th", { scope: "col" }, "Share"),
        ),
      ),
      h("tbody", {}, ...shown.map((row) => this.#row(row, most, total))),
    );
    const parts = [h("div", {}, table)];
    if (this.#rows.length > FEW) {
      const toggle = () => {
        this.isLong = !this.isLong;
        this.#show();
      };
      const name = this.isLong ? "Show fewer" : `Show all ${formatNumber(this.#rows.length)}`;
      parts[0]?.append(h("button", { type: "button", class: "more", "data-key": "more", onclick: toggle }, name));
    }
    if (list.filter === "location") {
      const visits = new Map(this.#rows.map((row) => [row.location, row.visits]));
      parts.unshift(h("div", {}, await worldMap(visits, (country) => this.onPick("location", country))));
    }
    refill(this.body, ...parts);
  }

  /**
   * @param {Row} row
   * @param {number} most
   * @param {number} total
   */
  #row(row, most, total) {
    const value = row[this.list.filter];
    const name = this.list.show(value);
    const bar = h("span", { class: "bar" });
    bar.style.width = `${(row.visits / most) * 100}%`;
    const pick = h(
      "button",
      { type: "button", title: name, "data-key": `=${value}`, onclick: () => this.onPick(this.list.filter, value) },
      name,
    );
    pick.setAttribute("aria-label", `${name}: filter by it`);
    return h(
      "tr",
      { "data-value": value },
      h("th", { scope: "row" }, bar, pick),
      h("td", {}, formatNumber(row.visits)),
      h("td", { class: "quiet" }, formatPercent(row.visits / total)),
    );
  }

  #save() {
    const { name, filter, show } = this.list;
    saveCsv(
      `${name.toLowerCase().replaceAll(" ", "-")}.csv`,
      [name, "Visitors"],
      this.#rows.map((row) => [show(row[filter]), row.visits]),
    );
  }
}

/**
 * Add up rows of one value: pages of one path may belong to several posts.
 * @param {Row[]} rows
 * @param {string} column
 */
function merge(rows, column) {
  /** @type {Map<string, Row>} */
  const merged = new Map();
  for (const row of rows) {
    const known = merged.get(row[column]);
    merged.set(row[column], { [column]: row[column], visits: row.visits + (known?.visits ?? 0) });
  }
  return [...merged.values()]
    .filter((row) => !column.startsWith("utm_") || row[column] !== "")
    .sort((a, b) => b.visits - a.visits);
}
