// Query the statistics' pipes.

import { forgetGrant, grantFor } from "./access.js";

const root = document.documentElement.dataset.root ?? "";
const STALE = "x-traffic-analytics-stale";

/** The statistics did not answer a query, or refused it. */
export class PipeError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Return whether the target has no such pipe: Tinybird has fewer than the store. */
  get isMissing() {
    return this.status === 404 || this.status === 403;
  }
}

/** @typedef {Record<string, any>} Row */
/** @typedef {{rows: Row[], staleSeconds: number}} Reply */

/**
 * Send a query, once more with a new token if the token is refused.
 * @param {string} pipe
 * @param {string | null} site
 * @param {Record<string, string>} parameters
 * @returns {Promise<Reply>}
 */
export async function queryPipe(pipe, site, parameters) {
  const query = new URLSearchParams(site === null ? parameters : { site_uuid: site, ...parameters });
  const address = `${root}../v0/pipes/${pipe}.json?${query}`;
  let response = await send(address, site);
  if (response.status === 403) {
    forgetGrant(site);
    response = await send(address, site);
  }
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({ error: "" }));
    throw new PipeError(response.status, error || `status ${response.status}`);
  }
  const { data } = await response.json();
  return { rows: data, staleSeconds: Number(response.headers.get(STALE) ?? 0) };
}

/**
 * @param {string} address
 * @param {string | null} site
 */
async function send(address, site) {
  const { token } = await grantFor(site);
  try {
    return await fetch(address, { headers: { Authorization: `Bearer ${token}` }, credentials: "omit" });
  } catch {
    throw new PipeError(0, "The service cannot be reached.");
  }
}
