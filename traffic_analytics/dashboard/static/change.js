// Show the change of a number since the period before.

import { h } from "./elements.js";

/**
 * @param {{text: string, sign: number}} change
 * @param {boolean} [isBetterLow]
 */
export function changeOf({ text, sign }, isBetterLow = false) {
  if (sign === 0) {
    return h("span", { class: "change same" }, "± 0");
  }
  return h(
    "span",
    { class: sign > 0 === isBetterLow ? "change worse" : "change better" },
    h("span", { "aria-hidden": "true" }, sign > 0 ? "▲ " : "▼ "),
    h("span", { class: "unseen" }, sign > 0 ? "up " : "down "),
    text,
  );
}
