from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.chromium import Tab, chromium, find_chromium
from tests.support.dashboard import KEY
from tests.support.dashboard_pages import World, log_in
from tests.support.running import running_with_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("needs a Chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("dashboard")
    with running_with_store(directory, DASHBOARD="true", DASHBOARD_KEY=KEY) as (service, store):
        yield World(service, store)


@pytest.fixture
def visitor(browser: Browser, world: World) -> Iterator[Tab]:
    """Open a tab that is not logged in; its page's clock stands at the time of the hits."""
    tab = Tab(browser, world.origin)
    tab.page.clock.set_fixed_time(world.now)
    yield tab
    tab.context.close()
    assert tab.faults == []


@pytest.fixture
def tab(visitor: Tab) -> Tab:
    log_in(visitor)
    return visitor
