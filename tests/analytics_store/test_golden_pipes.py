import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.store import GOLDEN, Clock, post_golden

CASES = [json.loads(line) for line in (GOLDEN / "pipes.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    data_dir: Path = tmp_path_factory.mktemp("golden")
    app = create_app(Settings(data_dir=data_dir), clock=Clock())
    post_golden(app.test_client())
    yield app.test_client()
    app.extensions["store"].close()


def unordered(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps({name: _number(value) for name, value in row.items()}, sort_keys=True) for row in rows)


def _number(value: object) -> object:
    return float(value) if isinstance(value, int | float) else value


@pytest.mark.parametrize("version", ["", "_v2"])
@pytest.mark.parametrize("case", CASES, ids=[f"{case['pipe']}-{case['name']}" for case in CASES])
def test_ghosts_own_cases_give_the_rows_that_ghost_expects(
    loaded: FlaskClient, case: dict[str, Any], version: str
) -> None:
    response = loaded.get(f"/v0/pipes/{case['pipe']}{version}.json?{case['params']}")
    assert response.status_code == case["status"]
    if case["status"] == 200:
        body = response.get_json()
        assert unordered(body["data"]) == unordered(case["rows"])
        assert body["rows"] == len(case["rows"])
        counts = [row.get("visits", 0) for row in body["data"]]
        if case["pipe"].startswith("api_top"):
            assert counts == sorted(counts, reverse=True)
