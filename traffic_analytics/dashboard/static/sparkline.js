// Draw a small line of daily numbers.

import { svg } from "./elements.js";

const WIDTH = 120;
const HEIGHT = 28;

/** @param {number[]} values */
export function sparkline(values) {
  const most = Math.max(1, ...values);
  const step = WIDTH / Math.max(1, values.length - 1);
  const points = values.map((value, place) => {
    const x = (place * step).toFixed(1);
    const y = (HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1);
    return `${x},${y}`;
  });
  return svg(
    "svg",
    { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true" },
    svg("polyline", { points: points.join(" ") }),
  );
}
