from __future__ import annotations

import pytest

from tests.support.pubsub_worker import (
    World,
)


@pytest.fixture
def world() -> World:
    return World()
