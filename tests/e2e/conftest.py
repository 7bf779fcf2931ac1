from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fake_tinybird import FakeTinybird

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fake() -> Iterator[FakeTinybird]:
    fake = FakeTinybird()
    yield fake
    fake.refuse()
