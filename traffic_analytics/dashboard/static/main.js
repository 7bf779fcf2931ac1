// Choose the page that the URL names.

import { grantFor } from "./access.js";
import { readAddress } from "./address.js";
import { HealthPage } from "./health.js";
import { errorNotice } from "./notices.js";
import { SitePage } from "./site.js";
import { SitesPage } from "./sites.js";

const content = /** @type {HTMLElement} */ (document.querySelector("#content"));
const isShared = (document.documentElement.dataset.root ?? "") !== "";

/** @type {SitesPage | SitePage | HealthPage | null} */
let page = null;

async function open() {
  const address = readAddress();
  let site = address.site;
  if (isShared) {
    site = (await grantFor(null)).site;
  }
  if (page instanceof SitePage && page.site === site && !address.isHealth) {
    page.show(address);
    return;
  }
  page?.end();
  if (address.isHealth && !isShared) {
    page = new HealthPage();
  } else if (site === null) {
    page = new SitesPage();
  } else {
    page = new SitePage(site, address, isShared);
  }
  content.replaceChildren(page.element);
  page.start();
}

function openSafely() {
  open().catch((error) => content.replaceChildren(errorNotice(error, openSafely)));
}

window.addEventListener("popstate", openSafely);
for (const link of document.querySelectorAll("#places a")) {
  const isHere = new URL(/** @type {HTMLAnchorElement} */ (link).href).search === location.search;
  if (isHere) {
    link.setAttribute("aria-current", "page");
  }
}
openSafely();
