"""Make the pictures of the documentation from drawn visits: `make pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.app import SITE
from tests.support.chromium import Tab, chromium
from tests.support.processes import ROOT
from tests.support.running import running_with_store
from tests.support.visits import draw_visits, now_utc, store_visits

IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Write all pictures."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_with_store(Path(directory), DASHBOARD="true") as (service, store),
        chromium() as browser,
    ):
        for days, visits in ((60, 3000), (30, 600)):  # a blog that grows
            store_visits(store.url, draw_visits(SITE, now_utc(), days=days, visits=visits, seed=days), "blog.example")
        tab = Tab(browser, f"http://127.0.0.1:{service.port}", viewport={"width": 1280, "height": 1290})
        tab.open(f"?site={SITE}").screenshot(path=IMAGES / "own-dashboard.png")
        tab.context.close()


if __name__ == "__main__":
    main()
