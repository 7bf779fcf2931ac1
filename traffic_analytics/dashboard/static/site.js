// Show one blog.

import { FILTERS, writeAddress } from "./address.js";
import { Card } from "./card.js";
import { changeOf } from "./change.js";
import { Chart } from "./chart.js";
import { saveCsv } from "./csv.js";
import { h, refill } from "./elements.js";
import { formatChange, formatDays, formatDuration, formatLarge, formatNumber, formatPercent } from "./format.js";
import { CARDS, SHOWN } from "./lists.js";
import { whileVisible } from "./live.js";
import { errorNotice, staleNotice } from "./notices.js";
import { PipeError, queryPipe } from "./pipes.js";
import { rangeControls } from "./range_form.js";
import { daysBefore, daysOf, timezone, today } from "./ranges.js";
import { METRICS, totalOf } from "./totals.js";

const LIVE_SECONDS = 5;

/** @typedef {import("./address.js").Address} Address */
/** @typedef {import("./pipes.js").Row} Row */
/** @typedef {import("./ranges.js").Days} Days */

/** @type {Record<string, (value: number) => string>} */
const FORMATS = {
  visits: formatLarge,
  pageviews: formatLarge,
  bounce_rate: formatPercent,
  avg_session_sec: formatDuration,
};

export class SitePage {
  /**
   * @param {string} site
   * @param {Address} address
   * @param {boolean} isShared
   */
  constructor(site, address, isShared) {
    this.site = site;
    this.address = address;
    this.isShared = isShared;
    this.title = h("h1", { tabindex: -1 }, "…");
    this.live = h("p", { class: "live", role: "status" });
    this.notices = h("div", {});
    this.filters = h("div", { class: "filters" });
    this.range = h("form", { class: "range", onsubmit: (event) => event.preventDefault() });
    this.metrics = h("div", { class: "metrics", role: "group", "aria-label": "Numbers of the chart" });
    this.chart = new Chart();
    this.chartArea = h("section", { class: "card wide", "aria-label": "Chart" }, this.metrics, this.chart.element);
    this.cards = CARDS.map(({ id, lists }) => new Card(id, lists, (filter, value) => this.#filterBy(filter, value)));
    this.cardArea = h("div", { class: "cards" }, ...this.cards.map((card) => card.element));
    this.element = h(
      "div",
      { class: "site" },
      h("div", { class: "site-head" }, h("div", {}, this.title, this.live), this.range),
      this.filters,
      this.notices,
      this.chartArea,
      this.cardArea,
    );
    this.end = () => {};
  }

  /** @type {Row[]} */
  #rows = [];
  /** @type {Row[]} */
  #rowsBefore = [];
  /** Visitors now; null before the first response. @type {number | "unknown" | null} */
  #active = null;
  /** Time of the last hit; null if the target does not tell it. @type {string | null} */
  #lastHit = "";
  #run = 0;
  #staleSeconds = 0;
  #hasTrouble = false;

  /** Begin to load, and to repeat the number of visitors now. */
  start() {
    this.show(this.address);
    this.end = whileVisible(() => this.#loadActive());
  }

  /**
   * Show what an address names.
   * @param {Address} address
   */
  show(address) {
    this.address = address;
    refill(this.range, ...rangeControls(address, (change) => this.#go(change)));
    this.#fillFilters();
    this.#load();
  }

  /** @param {Partial<Address>} change */
  #go(change) {
    const address = { ...this.address, ...change };
    history.pushState(null, "", writeAddress(address, this.isShared));
    this.show(address);
  }

  /**
   * @param {string} filter
   * @param {string} value
   */
  #filterBy(filter, value) {
    this.#go({ filters: { ...this.address.filters, [filter]: value } });
    this.filters.querySelector("button")?.focus();
  }

  /** @param {string} filter */
  #unfilter(filter) {
    const filters = { ...this.address.filters };
    delete filters[filter];
    this.#go({ filters });
    (this.filters.querySelector("button") ?? this.title).focus();
  }

  #fillFilters() {
    const chips = Object.entries(this.address.filters).map(([filter, value]) => {
      const text = `${FILTERS[filter]}: ${SHOWN[filter]?.(value) ?? value}`;
      const remove = h(
        "button",
        { type: "button", onclick: () => this.#unfilter(filter) },
        text,
        h("span", { "aria-hidden": "true" }, " ✕"),
      );
      remove.setAttribute("aria-label", `${text}, remove this filter`);
      return h("li", {}, remove);
    });
    this.filters.replaceChildren(...(chips.length ? [h("ul", { "aria-label": "Filters" }, ...chips)] : []));
  }

  /** Query the site's host and last hit; Tinybird has no such pipe, and the site's identifier remains its name. */
  async #loadSite() {
    if (this.#lastHit === null) {
      return;
    }
    try {
      const { rows } = await queryPipe("api_sites", this.site, { timezone });
      this.#lastHit = rows[0]?.last_hit ?? "";
      this.#name(rows[0]?.host || this.site);
    } catch (error) {
      this.#name(this.title.textContent === "…" ? this.site : (this.title.textContent ?? ""));
      if (error instanceof PipeError && error.isMissing) {
        this.#lastHit = null;
      }
    }
  }

  /** @param {string} name */
  #name(name) {
    if (this.title.textContent !== name) {
      this.title.textContent = name;
      document.title = `${name} · Traffic Analytics`;
    }
  }

  async #loadActive() {
    const [known, lastHit] = [this.#active, this.#lastHit];
    try {
      const [{ rows }] = await Promise.all([queryPipe("api_active_visitors", this.site, {}), this.#loadSite()]);
      const active = rows[0]?.active_visitors ?? 0;
      this.#active = active;
      if (active !== known) {
        this.#showActive(active);
      }
      const hasChanged = known !== null && (this.#active !== known || this.#lastHit !== lastHit);
      if ((hasChanged && this.#isCurrent()) || (this.#hasTrouble && (await this.#hasRecovered()))) {
        this.#load();
      }
    } catch {
      this.#active = "unknown";
      this.live.replaceChildren("Visitors now: unknown");
    }
    return LIVE_SECONDS;
  }

  /** Return whether the statistics answer again; what is shown stays as it is until then. */
  async #hasRecovered() {
    const days = daysOf(this.address.range, this.address.from, this.address.to);
    const parameters = { date_from: days.from, date_to: days.to, timezone, ...this.address.filters };
    return queryPipe("api_kpis", this.site, parameters).then(
      ({ staleSeconds }) => staleSeconds === 0,
      () => false,
    );
  }

  /** @param {number} count */
  #showActive(count) {
    const dot = h("span", { class: count ? "dot on" : "dot", "aria-hidden": "true" });
    this.live.replaceChildren(dot, `${formatNumber(count)} ${count === 1 ? "visitor" : "visitors"} now`);
  }

  /**
   * @param {string} pipe
   * @param {Days} days
   * @param {Record<string, string>} more
   */
  async #query(pipe, days, more = {}) {
    const parameters = { date_from: days.from, date_to: days.to, timezone, ...this.address.filters, ...more };
    const { rows, staleSeconds } = await queryPipe(pipe, this.site, parameters);
    if (staleSeconds > this.#staleSeconds) {
      this.#staleSeconds = staleSeconds;
      this.notices.replaceChildren(staleNotice(staleSeconds));
    }
    return rows;
  }

  async #load() {
    this.#run += 1;
    const run = this.#run;
    this.#staleSeconds = 0;
    const days = daysOf(this.address.range, this.address.from, this.address.to);
    const before = daysBefore(this.address.range, days);
    this.element.setAttribute("aria-busy", "true");
    try {
      const [rows, rowsBefore] = await Promise.all([
        this.#query("api_kpis", days).then((first) => this.#showFirst(first)),
        before === null ? [] : this.#query("api_kpis", before),
      ]);
      if (run !== this.#run) {
        return;
      }
      this.chartArea.hidden = this.cardArea.hidden = false;
      this.#rows = rows;
      // Today is compared with the same hours of the day before.
      this.#rowsBefore = rowsBefore.slice(0, rows.length);
      this.#hasTrouble = this.#staleSeconds > 0;
      if (!this.#hasTrouble) {
        this.notices.replaceChildren(...this.#emptyNotice());
      }
      this.#showNumbers();
    } catch (error) {
      if (run === this.#run) {
        this.#hasTrouble = true;
        // Numbers of another range would mislead.
        this.chartArea.hidden = this.cardArea.hidden = true;
        this.notices.replaceChildren(errorNotice(error, () => this.#load()));
      }
    } finally {
      // After the chart: together they would delay it.
      if (run === this.#run && !this.cardArea.hidden) {
        await Promise.all(this.cards.map((card) => card.load((pipe, more) => this.#query(pipe, days, more))));
      }
      if (run === this.#run) {
        this.element.removeAttribute("aria-busy");
        this.element.dataset.loaded = String(run);
      }
    }
  }

  /**
   * Show the first numbers of the page before those of the period before them.
   * @param {Row[]} rows
   */
  #showFirst(rows) {
    if (this.#run === 1) {
      this.#rows = rows;
      this.#showNumbers();
    }
    return rows;
  }

  #emptyNotice() {
    if (totalOf(this.#rows, "pageviews") > 0) {
      return [];
    }
    const hasFilters = Object.keys(this.address.filters).length > 0;
    const advice = hasFilters
      ? "Remove a filter, or choose a longer range."
      : "Choose a longer range, or open a page of the blog in a private window: its visit appears here.";
    return [h("div", { class: "notice" }, h("strong", {}, "No hits in this range. "), advice)];
  }

  #showNumbers() {
    const { metric } = this.address;
    const chosen = METRICS.find(({ id }) => id === metric) ?? METRICS[0];
    const buttons = METRICS.map((each) => {
      const current = totalOf(this.#rows, each.id);
      const format = FORMATS[each.id] ?? String;
      const change = this.#rowsBefore.length ? formatChange(current, totalOf(this.#rowsBefore, each.id)) : null;
      return h(
        "button",
        {
          type: "button",
          "aria-pressed": String(each === chosen),
          "data-key": each.id,
          "data-metric": each.id,
          onclick: () => this.#choose(each.id),
        },
        h("span", { class: "metric-name" }, each.name),
        h("span", { class: "metric-value" }, format(current)),
        change && changeOf(change, each.isBetterLow),
      );
    });
    const save = h(
      "button",
      {
        type: "button",
        class: "csv",
        "data-key": "csv",
        "aria-label": "Download the chart as CSV",
        onclick: () => this.#save(),
      },
      "CSV",
    );
    refill(this.metrics, ...buttons, save);
    if (chosen) {
      this.chart.show({
        name: chosen.name,
        labels: this.#rows.map((row) => row.date),
        current: this.#rows.map((row) => row[chosen.id]),
        before: this.#rows.map((_, place) => this.#rowsBefore[place]?.[chosen.id] ?? null),
        format: FORMATS[chosen.id] ?? String,
        legend: this.#legend(),
        isOpen: this.#isCurrent(),
      });
    }
  }

  /** Return whether the range includes today. */
  #isCurrent() {
    return daysOf(this.address.range, this.address.from, this.address.to).to === today();
  }

  #legend() {
    const days = daysOf(this.address.range, this.address.from, this.address.to);
    const before = daysBefore(this.address.range, days);
    return formatDays(days) + (before === null ? "" : `; grey, dashed: ${formatDays(before)}`);
  }

  /** @param {string} metric */
  #choose(metric) {
    this.address = { ...this.address, metric };
    history.replaceState(null, "", writeAddress(this.address, this.isShared));
    this.#showNumbers();
  }

  #save() {
    const columns = ["Time", ...METRICS.map(({ name }) => name)];
    const rows = this.#rows.map((row) => [row.date, ...METRICS.map(({ id }) => row[id])]);
    saveCsv(`${this.title.textContent}.csv`, columns, rows);
  }
}
