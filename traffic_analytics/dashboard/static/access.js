// Fetch the tokens with which pipes are queried, and renew them before they expire.

const RENEW_BEFORE_MS = 60_000;

/** The session or the share link has ended. */
export class AccessEnded extends Error {}

/** @typedef {{token: string, seconds: number, site: string | null, sites: string[]}} Grant */

/** @type {Map<string, {grant: Promise<Grant>, until: number}>} */
const grants = new Map();

/**
 * Return a grant for one site, or for the list of all sites if `site` is null; a share link always grants its own site.
 * @param {string | null} site
 * @returns {Promise<Grant>}
 */
export function grantFor(site) {
  const key = site ?? "";
  const known = grants.get(key);
  if (known && Date.now() < known.until) {
    return known.grant;
  }
  const entry = { grant: fetchGrant(site), until: Date.now() + RENEW_BEFORE_MS };
  grants.set(key, entry);
  entry.grant.then(
    (grant) => {
      entry.until = Date.now() + Math.max(grant.seconds * 1000 - RENEW_BEFORE_MS, 1000);
    },
    () => grants.delete(key),
  );
  return entry.grant;
}

/**
 * Forget a token that was refused.
 * @param {string | null} site
 */
export function forgetGrant(site) {
  grants.delete(site ?? "");
}

/** @param {string | null} site */
async function fetchGrant(site) {
  const response = await fetch(site === null ? "token.json" : `token.json?site=${encodeURIComponent(site)}`);
  if (response.status === 401 || response.status === 404) {
    throw new AccessEnded();
  }
  if (!response.ok) {
    throw new Error(`The service answered ${response.status}.`);
  }
  return response.json();
}
