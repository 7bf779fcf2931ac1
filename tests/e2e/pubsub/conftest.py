from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_tinybird import FakeTinybird
from tests.support.pubsub_emulator import PubsubEmulator
from tests.support.pubsub_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="package")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubsubEmulator]:
    with PubsubEmulator(tmp_path_factory.mktemp("pubsub")) as emulator:
        yield emulator


@pytest.fixture
def world(emulator: PubsubEmulator, tmp_path: Path, fake: FakeTinybird) -> Iterator[World]:
    world = World(emulator, tmp_path, fake)
    emulator.create(world.topic)
    yield world
    emulator.go_on()
    for each in world.processes:
        with contextlib.suppress(AssertionError):
            each.terminate()
        each.kill_tree()
    for each in world.processes:
        assert '"event": "UnhandledError"' not in each.log
        assert '"event": "ChoreFailed"' not in each.log
        assert each.secrets_on_disk() == []
