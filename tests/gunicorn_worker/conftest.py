from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server
