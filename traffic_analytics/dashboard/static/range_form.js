// Make the controls that choose the days of a page.

import { h } from "./elements.js";
import { daysOf, RANGES, today } from "./ranges.js";

/** @typedef {import("./address.js").Address} Address */

/**
 * @param {Address} address
 * @param {(change: Partial<Address>) => void} go
 */
export function rangeControls({ range, from, to }, go) {
  const options = RANGES.map(({ id, name }) => h("option", { value: id, selected: id === range }, name));
  const choose = (/** @type {Event} */ event) => {
    go({ range: /** @type {HTMLSelectElement} */ (event.target).value, ...daysOf(range, from, to) });
  };
  const select = h("select", { "data-key": "range", onchange: choose }, ...options);
  const controls = [h("label", {}, h("span", { class: "unseen" }, "Range"), select)];
  if (range === "custom") {
    controls.push(dateControl("From", "from", from, go), dateControl("To", "to", to, go));
  }
  return controls;
}

/**
 * @param {string} label
 * @param {"from" | "to"} name
 * @param {string} value
 * @param {(change: Partial<Address>) => void} go
 */
function dateControl(label, name, value, go) {
  const change = (/** @type {Event} */ event) => {
    const input = /** @type {HTMLInputElement} */ (event.target);
    if (input.value && input.checkValidity()) {
      go({ [name]: input.value });
    }
  };
  const attributes = { type: "date", name, value, max: today(), "data-key": name, onchange: change };
  return h("label", {}, `${label} `, h("input", attributes));
}
