// Add up the rows of a chart.

/** @typedef {import("./pipes.js").Row} Row */

/** Numbers of a site, as its chart shows them. @type {ReadonlyArray<{id: string, name: string, isBetterLow: boolean}>} */
export const METRICS = [
  { id: "visits", name: "Visitors", isBetterLow: false },
  { id: "pageviews", name: "Views", isBetterLow: false },
  { id: "bounce_rate", name: "Bounce rate", isBetterLow: true },
  { id: "avg_session_sec", name: "Visit duration", isBetterLow: false },
];

/**
 * Add up one number; rates are weighted by visits.
 * @param {Row[]} rows
 * @param {string} metric
 */
export function totalOf(rows, metric) {
  if (metric === "visits" || metric === "pageviews") {
    return rows.reduce((sum, row) => sum + row[metric], 0);
  }
  const visits = rows.reduce((sum, row) => sum + row.visits, 0);
  return visits === 0 ? 0 : rows.reduce((sum, row) => sum + row[metric] * row.visits, 0) / visits;
}
