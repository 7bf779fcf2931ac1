// Show whether hits pass through the service.

import { AccessEnded } from "./access.js";
import { h } from "./elements.js";
import { whileVisible } from "./live.js";
import { errorNotice } from "./notices.js";

const LIVE_SECONDS = 15;

/** @typedef {{name: string, value: string, is_good: boolean, advice: string}} Fact */
/** @typedef {{groups: {name: string, facts: Fact[]}[]}} Report */

export class HealthPage {
  constructor() {
    this.summary = h("p", { class: "verdict", role: "status" }, "Loading…");
    this.content = h("div", {});
    this.element = h("div", { class: "health" }, h("h1", { tabindex: -1 }, "Health"), this.summary, this.content);
    this.end = () => {};
  }

  start() {
    document.title = "Health · Traffic Analytics";
    this.end = whileVisible(() => this.#load());
  }

  async #load() {
    try {
      const response = await fetch("health.json");
      if (response.status === 401) {
        throw new AccessEnded();
      }
      if (!response.ok) {
        throw new Error(`The service answered ${response.status}.`);
      }
      this.#show(await response.json());
    } catch (error) {
      this.summary.textContent = "";
      this.content.replaceChildren(errorNotice(error, () => this.#load()));
    } finally {
      this.element.dataset.loaded = "true";
    }
    return LIVE_SECONDS;
  }

  /** @param {Report} report */
  #show({ groups }) {
    const open = groups.flatMap(({ facts }) => facts.filter((fact) => !fact.is_good));
    const summary =
      open.length === 0 ? "All is well." : open.length === 1 ? "One thing to do." : `${open.length} things to do.`;
    if (this.summary.textContent !== summary) {
      this.summary.textContent = summary;
      this.summary.className = open.length ? "verdict bad" : "verdict good";
    }
    this.content.replaceChildren(
      h(
        "div",
        { class: "cards" },
        ...groups.map(({ name, facts }) =>
          h(
            "section",
            { class: "card", "aria-label": name },
            h("h2", {}, name),
            h("dl", {}, ...facts.flatMap(factRow)),
          ),
        ),
      ),
    );
  }
}

/** @param {Fact} fact */
function factRow(fact) {
  return [
    h("dt", {}, fact.name),
    h(
      "dd",
      {},
      h("span", {}, fact.value),
      h("span", { class: fact.is_good ? "state good" : "state bad" }, fact.is_good ? "good" : "do this"),
      !fact.is_good && h("p", { class: "advice" }, fact.advice),
    ),
  ];
}
