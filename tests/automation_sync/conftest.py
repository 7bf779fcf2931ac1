from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.app import Service
from tests.support.sync_rows import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[..., Service]


@pytest.fixture
def service(start: Start) -> Service:
    return start(TINYBIRD_SYNC_AUTH=KEY)
