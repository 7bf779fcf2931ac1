"""Rows are checked one by one, and only JSON of the contract is sent on."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
import requests_mock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.app import OTHER_SITE, SITE, Service, all_rows_fit
from tests.support.sync import forwarded, refused, sync, without
from tests.support.sync_rows import KEY, PATH, body_of, run, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., Service]

MUST_BE_DATE = "must be a date and time like 2026-01-31T23:59:59.999Z"
OTHER = "must be that of the header x-site-uuid"
NAMES = "automation_run_events, automation_run_step_events"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"{", ": must be a JSON object"),
        (b"[]", ": must be object, got array"),
        (b"1a4", ": must be object, got int"),
        (b"\xff", ": must be in UTF-8"),
        (json.dumps(run()).encode().replace(b"6920f0c1a1b2c3d4e5f60001", b"\xff"), ": must be in UTF-8"),
        (json.dumps(run()).encode() * 2, ": must be a JSON object"),
        (b'{"a":' * 5000, ": must be a JSON object"),
        (json.dumps({**run(), "payload": 0}).encode().replace(b": 0", b": " + b"[" * 5000), ": must be a JSON object"),
        (without(run(), "id"), ": misses required field id"),
        (without(run(), "payload"), ": misses required field payload"),
        (without(run(), "site_uuid"), ": misses required field site_uuid"),
        (without(run(), "updated_at"), ": misses required field updated_at"),
        ({**run(), "type": "members"}, ".type: must be one of automation_runs, automation_run_steps"),
        ({**run(), "type": None}, ".type: must be str, got null"),
        ({**run(), "type": 1}, ".type: must be str, got int"),
        ({**run(), "id": 7}, ".id: must be str, got int"),
        ({**run(), "id": " "}, ".id: must not be blank"),
        ({**run(), "site_uuid": OTHER_SITE}, f".site_uuid: {OTHER}"),
        ({**run(), "updated_at": "yesterday"}, f".updated_at: {MUST_BE_DATE}"),
        ({**run(), "updated_at": "2026-02-30T00:00:00.000Z"}, f".updated_at: {MUST_BE_DATE}"),
        ({**run(), "updated_at": None}, ".updated_at: must be str, got null"),
        ({**run(), "payload": "{}"}, ".payload: must be object, got str"),
        ({**run(), "payload": None}, ".payload: must be object, got null"),
        (run(site_uuid=OTHER_SITE), f".payload.site_uuid: {OTHER}"),
        (run(site_uuid=None), ".payload.site_uuid: must be str, got null"),
        (run(automation_id=""), ".payload.automation_id: must not be blank"),
        (run(automation_id=None), ".payload.automation_id: must be str, got null"),
        (run(created_at=""), f".payload.created_at: {MUST_BE_DATE}"),
        (run(created_at="2026-11-22 00:30:13"), f".payload.created_at: {MUST_BE_DATE}"),
        (run(created_at=None), ".payload.created_at: must be str, got null"),
        (run(updated_at="now"), f".payload.updated_at: {MUST_BE_DATE}"),
        (run(id=5), ".payload.id: must be str, got int"),
        ({**run(), "payload": without(run()["payload"], "created_at")}, ".payload: misses required field created_at"),
        ({**run(), "type": "automation_run_steps"}, ".payload: misses required field automation_run_id"),
        (step(status=None), ".payload.status: must be str, got null"),
        (step(status=3), ".payload.status: must be str, got int"),
        (step(status=""), ".payload.status: must not be blank"),
        (step(automation_run_id=""), ".payload.automation_run_id: must not be blank"),
        (step(step_attempts="2"), ".payload.step_attempts: must be int | null, got str"),
        (step(started_at="soon"), f".payload.started_at: {MUST_BE_DATE}"),
        (step(finished_at=0), ".payload.finished_at: must be str | null, got int"),
        ({**step(), "type": "automation_runs"}, ".payload: misses required field automation_id"),
        (without(run(automation_run_id="x"), "type"), ".payload: must hold either automation_id or automation_run_id"),
        (without({**run(), "payload": {}}, "type"), ".payload: must hold either automation_id or automation_run_id"),
        (without({**run(), "payload": []}, "type"), ".payload: must be object, got array"),
    ],
    ids=itertools.count(),
)
def test_one_invalid_row_refuses_all_rows_and_is_named(row: Any, message: str, start: Start, log: Any) -> None:
    service = start(TINYBIRD_SYNC_AUTH=KEY)
    answer = sync(service, run(1), step(1), row, run(2))

    assert refused(answer, 400) == f"line 3{message}"
    assert service.tinybird.request_history == []
    assert log.text == ""


@pytest.mark.parametrize(
    ("query", "row", "message"),
    [
        ("?name=analytics_events", run(), f"query.name: must be absent or exactly one of {NAMES}"),
        ("?name=", run(), f"query.name: must be absent or exactly one of {NAMES}"),
        (
            "?name=automation_run_events&name=automation_run_events",
            run(),
            f"query.name: must be absent or exactly one of {NAMES}",
        ),
        (
            "?name=automation_run_step_events",
            run(),
            "line 1.type: must be automation_run_steps for the data source in ?name",
        ),
        (
            "?name=automation_run_step_events",
            without(run(), "type"),
            "line 1.payload: misses required field automation_run_id",
        ),
    ],
)
def test_the_data_source_of_the_query_must_be_that_of_the_rows(
    query: str, row: Any, message: str, service: Service
) -> None:
    assert refused(sync(service, row, path=PATH + query), 400) == message
    assert service.tinybird.request_history == []


@pytest.mark.parametrize("site", [None, "", "1", SITE + "0", f"{{{SITE}}}"])
def test_the_site_must_be_a_uuid(site: str | None, service: Service) -> None:
    assert refused(sync(service, run(), x_site_uuid=site), 400) == "headers.x-site-uuid: must be a UUID"


def test_the_case_of_a_site_does_not_matter(service: Service) -> None:
    assert (
        sync(service, {**run(site_uuid=SITE.upper()), "site_uuid": SITE}, x_site_uuid=SITE.upper()).status_code == 202
    )


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\n  "])
def test_a_body_without_rows_is_refused(body: bytes, service: Service) -> None:
    assert refused(sync(service, body), 400) == "body: must hold at least one row"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n", b"\n \n"])
def test_blank_lines_are_not_counted_as_rows(end: bytes, service: Service) -> None:
    assert sync(service, b"", run(1), b"\r", run(2), end).json["rows"] == 2


@pytest.mark.parametrize("row", [without(run(), "type"), without(step(), "type")])
def test_the_kind_of_a_row_without_a_type_is_derived_from_its_fields(row: dict[str, Any], service: Service) -> None:
    assert sync(service, row).status_code == 202

    of_steps = "automation_run_id" in row["payload"]
    assert forwarded(service) == [("automation_run_step_events" if of_steps else "automation_run_events", [row])]


def test_unknown_fields_pass_unchanged(service: Service) -> None:
    row = {**run(colour="grün", depth=1.50, big=12345678901234567890123), "member": {"a": [1, None]}}

    assert sync(service, row).status_code == 202

    assert forwarded(service)[0][1] == [without(row, "type")]


def test_of_two_members_with_one_name_only_the_checked_one_is_forwarded(service: Service) -> None:
    twice = json.dumps(run()).replace('"site_uuid"', f'"site_uuid": "{OTHER_SITE}", "site_uuid"').encode()

    assert sync(service, twice).status_code == 202

    assert OTHER_SITE not in service.tinybird.request_history[-1].text


def test_a_thousand_rows_are_accepted_and_one_more_is_not(service: Service) -> None:
    rows = [run(number) for number in range(1000)]

    assert sync(service, *rows).json["rows"] == 1000
    assert sync(service, *rows, b"").json["rows"] == 1000
    assert refused(sync(service, *rows, run(1000)), 413) == "body: must be at most 1000 lines"


def test_nine_mebibytes_are_accepted_and_one_byte_more_is_not(service: Service) -> None:
    limit = 9 * 1024 * 1024
    fitting = body_of(*[run(number, note="x" * 9000) for number in range(1000)])
    fitting += b" " * (limit - len(fitting))

    assert sync(service, fitting).json["rows"] == 1000
    assert refused(sync(service, fitting + b" "), 413) == f"body: must be at most {limit} bytes"


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
mutated = st.builds(
    lambda row, name, inner, value: (
        {**row, "payload": {**row["payload"], name: value}} if inner else {**row, name: value}
    ),
    st.sampled_from([run(), step(), without(run(), "type"), without(step(), "type")]),
    st.sampled_from([*run(), *step()["payload"]]),
    st.booleans(),
    json_values | st.sampled_from(["\ud800", "2026-11-22T00:30:13Z", SITE, "automation_runs"]),
)
lines = st.one_of(
    st.binary(max_size=60), json_values.map(json.dumps).map(str.encode), mutated.map(json.dumps).map(str.encode)
)


@pytest.fixture(scope="module")
def hostile_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("hostile")
    with requests_mock.Mocker() as tinybird:
        tinybird.post(requests_mock.ANY, status_code=202, json=all_rows_fit)
        yield Service(directory, tinybird, TINYBIRD_SYNC_AUTH=KEY)


@given(
    st.lists(lines, max_size=5),
    st.sampled_from(["", "?name=automation_run_events", "?name=%FF", "?name", "?" + "&" * 50]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_input_is_handled_and_only_json_is_forwarded(
    hostile_service: Service, sent: list[bytes], query: str
) -> None:
    service = hostile_service
    service.tinybird.reset_mock()

    answer = sync(service, *sent, path=PATH + query)

    assert answer.status_code in (202, 400)
    sent_rows = [row for _, rows in forwarded(service) for row in rows]
    assert len(sent_rows) == (answer.json["rows"] if answer.status_code == 202 else 0)
    assert all(row["site_uuid"] == row["payload"]["site_uuid"] == SITE and "type" not in row for row in sent_rows)
