// Draw a line chart that the pointer and the keyboard read alike; canvas and axes by uPlot.

import { h } from "./elements.js";
import { formatSlot, formatTick } from "./format.js";
import uPlot from "./vendor/uplot/uPlot.esm.js";

const HEIGHT = 260;
/** Steps between whole numbers of an axis: 1, 2, 5, 10, 20 and so on. */
const WHOLE_STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

/**
 * A chart's content: a value for each label, and for each the value of the period before.
 * @typedef {object} Series
 * @property {string} name
 * @property {string[]} labels
 * @property {number[]} current
 * @property {(number | null)[]} before
 * @property {(value: number) => string} format
 * @property {string} legend
 * @property {boolean} isOpen The last value still grows.
 */

export class Chart {
  constructor() {
    this.readout = h("p", { class: "readout" });
    this.canvas = h("div", {
      class: "canvas",
      role: "slider",
      tabindex: 0,
      "aria-valuemin": 0,
      onkeydown: (event) => this.#onKey(/** @type {KeyboardEvent} */ (event)),
      onfocus: () => this.#select(this.#place ?? this.#last),
    });
    this.table = h("details", { class: "as-table" });
    this.element = h("div", { class: "chart" }, this.readout, this.canvas, this.table);
    /** @type {uPlot | null} */
    this.plot = null;
    new ResizeObserver(() => this.plot?.setSize(this.#size)).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** @type {Series | null} */
  #series = null;
  /** @type {number | null} */
  #place = null;

  get #last() {
    return (this.#series?.labels.length ?? 1) - 1;
  }

  get #size() {
    return { width: Math.max(this.canvas.clientWidth, 240), height: HEIGHT };
  }

  /** @param {Series} series */
  show(series) {
    this.#series = series;
    this.#place = null;
    this.#draw();
    this.#fillTable(series);
    this.canvas.setAttribute("aria-label", `${series.name} over time; arrow keys read the values`);
    this.canvas.setAttribute("aria-valuemax", String(this.#last));
    this.#read(this.#last);
    this.readout.textContent = series.legend;
  }

  #draw() {
    const series = this.#series;
    if (series === null) {
      return;
    }
    // The step to a value that still grows is dotted: it would look like a fall.
    const isDotted = series.isOpen && this.#last > 0;
    const closed = series.current.map((value, place) => (isDotted && place === this.#last ? null : value));
    const open = series.current.map((value, place) => (isDotted && place >= this.#last - 1 ? value : null));
    const steps = series.current.every(Number.isInteger) ? { incrs: WHOLE_STEPS } : {};
    this.plot?.destroy();
    const style = getComputedStyle(this.canvas);
    const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const points = { show: series.labels.length < 2 };
    this.plot = new uPlot(
      {
        ...this.#size,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
        scales: {
          x: { time: false, range: (_, min, max) => (min === max ? [min - 1, max + 1] : [min, max]) },
          y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] },
        },
        axes: [
          {
            ...axis,
            size: 30,
            space: 64,
            incrs: [1, 2, 3, 4, 6, 7, 14, 30, 60, 90, 180],
            values: (_, splits) => splits.map((place) => formatTick(series.labels[place] ?? "")),
          },
          { ...axis, ...steps, size: 56, values: (_, splits) => splits.map((value) => series.format(value)) },
        ],
        series: [
          {},
          { stroke: color("--before"), width: 2, dash: [4, 4], points },
          { stroke: color("--accent"), width: 2, fill: color("--accent-faint"), points },
          { stroke: color("--accent"), width: 2, fill: color("--accent-faint"), dash: [2, 4], points },
        ],
        hooks: { setCursor: [(plot) => this.#onCursor(plot.cursor.idx ?? null)] },
      },
      [series.labels.map((_, place) => place), series.before, closed, open],
      this.canvas,
    );
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const at = this.#place ?? this.#last;
    const steps = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      Home: 0,
      End: this.#last,
    };
    const place = steps[/** @type {keyof typeof steps} */ (event.key)];
    if (place !== undefined) {
      event.preventDefault();
      this.#select(Math.min(Math.max(place, 0), this.#last));
    }
  }

  /** @param {number} place */
  #select(place) {
    if (this.plot !== null && this.#series?.labels.length) {
      this.plot.setCursor({ left: this.plot.valToPos(place, "x"), top: 10 });
      this.#onCursor(place);
    }
  }

  /** @param {number | null} place */
  #onCursor(place) {
    this.#place = place;
    if (place === null) {
      this.readout.textContent = this.#series?.legend ?? "";
    } else {
      this.readout.textContent = this.#read(place);
    }
  }

  /** @param {number} place */
  #read(place) {
    const series = this.#series;
    if (series === null || series.labels[place] === undefined) {
      return "";
    }
    const before = series.before[place] ?? null;
    const compared = before === null ? "" : ` (${series.format(before)} in the period before)`;
    const soFar = series.isOpen && place === this.#last ? " so far" : "";
    const text = `${formatSlot(series.labels[place])}: ${series.format(series.current[place] ?? 0)}${soFar}${compared}`;
    this.canvas.setAttribute("aria-valuenow", String(place));
    this.canvas.setAttribute("aria-valuetext", text);
    return text;
  }

  /** @param {Series} series */
  #fillTable(series) {
    const rows = series.labels.map((label, place) => {
      const before = series.before[place] ?? null;
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, formatSlot(label)),
        h("td", {}, series.format(series.current[place] ?? 0)),
        h("td", {}, before === null ? "–" : series.format(before)),
      );
    });
    const head = ["Time", series.name, "Period before"].map((name) => h("th", { scope: "col" }, name));
    const table = h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows));
    this.table.replaceChildren(
      h("summary", {}, "Show as table"),
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${series.name} as a table` }, table),
    );
  }
}
