// Tell the reader what failed, and what to do.

import { AccessEnded } from "./access.js";
import { h } from "./elements.js";
import { PipeError } from "./pipes.js";

/**
 * Return a notice for an error.
 * @param {unknown} error
 * @param {() => void} retry
 */
export function errorNotice(error, retry) {
  if (error instanceof AccessEnded) {
    return h(
      "div",
      { class: "notice problem", role: "alert" },
      h("p", {}, "You are logged out, or the link has expired."),
      h("p", {}, h("a", { href: "./" }, "Open the page again")),
    );
  }
  const isUpstream = error instanceof PipeError;
  const reason = error instanceof Error ? error.message : String(error);
  return h(
    "div",
    { class: "notice problem", role: "alert" },
    h("p", {}, h("strong", {}, isUpstream ? "The statistics do not answer." : "The page cannot be shown.")),
    h("p", {}, `${sentence(reason)} `, isUpstream && "Hits are still accepted; they wait until the target is back."),
    h("button", { type: "button", onclick: retry }, "Try again"),
  );
}

/** @param {string} text */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");
}

/**
 * Return a notice for numbers that are not up to date.
 * @param {number} seconds
 */
export function staleNotice(seconds) {
  const minutes = Math.max(1, Math.round(seconds / 60));
  return h(
    "div",
    { class: "notice problem", role: "status" },
    h("strong", {}, "The statistics do not answer. "),
    `These numbers are ${minutes === 1 ? "a minute" : `${minutes} minutes`} old.`,
  );
}
