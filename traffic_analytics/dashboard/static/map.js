// Show countries on a map, shaded by their share of the largest number. The table beside it has the same numbers.

import { svg } from "./elements.js";
import { formatCountry, formatNumber } from "./format.js";

const SHADES = 5;

/** @typedef {{width: number, height: number, countries: Record<string, string>}} World */

/** @type {Promise<World> | null} */
let world = null;

function loadWorld() {
  world ??= fetch(new URL("vendor/world-map/countries.json", import.meta.url)).then((response) => response.json());
  return world;
}

/**
 * Return a map.
 * @param {Map<string, number>} visits
 * @param {(country: string) => void} onPick
 */
export async function worldMap(visits, onPick) {
  const { width, height, countries } = await loadWorld();
  const most = Math.max(1, ...visits.values());
  const shapes = Object.entries(countries).map(([code, path]) => {
    const count = visits.get(code) ?? 0;
    if (count === 0) {
      return svg("path", { d: path });
    }
    const shade = Math.max(1, Math.ceil((count / most) * SHADES));
    const label = `${formatCountry(code)}: ${formatNumber(count)}`;
    return svg("path", { d: path, class: `shade${shade}`, onclick: () => onPick(code) }, svg("title", {}, label));
  });
  return svg(
    "svg",
    {
      class: "map",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": "Map of visitors by country; the table of locations has the numbers",
    },
    ...shapes,
  );
}
