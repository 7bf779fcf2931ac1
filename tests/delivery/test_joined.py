"""Test hits that are delivered together."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
import requests

from tests.support.app import TARGET, all_rows_fit
from tests.support.clocks import Clock
from tests.support.fakes import spooled
from tests.support.processes import PATIENCE
from tests.support.turns import HIT, Reply, Request, serve_together
from traffic_analytics.delivery import target as delivery_target
from traffic_analytics.delivery.circuit import FAILURES_TO_OPEN
from traffic_analytics.delivery.modes import (
    HALVING_TIMEOUT,
    UnspooledDelivery,
    make_pace,
)
from traffic_analytics.delivery.target import Verdict
from traffic_analytics.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

RECEIVED = {"message": "Page hit event received"}
STORED = {"successful_rows": 1, "quarantined_rows": 0}
TEST_SOURCE = HIT + "_test"


def paths(*names: str) -> list[dict[str, str]]:
    return [{"pathname": name} for name in names]


def posted(tinybird: Any) -> list[list[str]]:
    """Return the pathnames of each post."""
    return [
        [json.loads(line)["payload"]["pathname"] for line in request.body.splitlines()]
        for request in tinybird.request_history
    ]


# -- direct


def test_hits_of_one_turn_are_sent_in_one_post_and_each_browser_gets_the_answer_of_its_own(
    service: Any, tinybird: Any
) -> None:
    replies = serve_together(service.app, paths("/a", "/b", "/c"))

    assert replies == [Reply(202, STORED)] * 3
    assert posted(tinybird) == [["/a", "/b", "/c"]]
    assert tinybird.request_history[0].headers["Content-Type"] == "application/x-ndjson"


def test_a_lone_hit_is_sent_and_answered_as_it_is(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=202, json={"successful_rows": 1, "quarantined_rows": 0, "more": "of Tinybird"})

    (reply,) = serve_together(service.app, paths("/a"))

    assert reply.json["more"] == "of Tinybird"
    assert tinybird.request_history[0].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "counts", "expected"),
    [
        (202, {"successful_rows": 3, "quarantined_rows": 0}, Reply(202, STORED)),
        (200, {"successful_rows": 3, "quarantined_rows": 0}, Reply(200, STORED)),
        (202, {"successful_rows": 0, "quarantined_rows": 3}, Reply(202, {"successful_rows": 0, "quarantined_rows": 1})),
        (202, {"successful_rows": 2, "quarantined_rows": 1}, Reply(202, RECEIVED)),
        (202, {"successful_rows": 2, "quarantined_rows": 0}, Reply(202, RECEIVED)),
        (202, {}, Reply(202, RECEIVED)),
    ],
)
def test_the_counts_of_a_batch_answer_each_browser_as_far_as_they_tell(
    status: int, counts: dict[str, int], expected: Reply, service: Any, tinybird: Any
) -> None:
    tinybird.post(TARGET, status_code=status, json=counts)

    assert serve_together(service.app, paths("/a", "/b", "/c")) == [expected] * 3
    assert spooled(service) == []


def test_each_data_source_has_posts_of_its_own(service: Any, tinybird: Any) -> None:
    hits = [
        {"pathname": "/a"},
        {"pathname": "/b", "target": TEST_SOURCE},
        {"pathname": "/c"},
        {"pathname": "/d", "target": TEST_SOURCE},
    ]

    assert serve_together(service.app, hits) == [Reply(202, STORED)] * 4
    assert sorted(posted(tinybird)) == [["/a", "/c"], ["/b", "/d"]]


def test_errors_and_bots_are_answered_at_once(service: Any, tinybird: Any) -> None:
    hit = Request(service.app)
    bot = Request(service.app, **{"User-Agent": "Googlebot/2.1"})
    invalid = Request(service.app, **{"x-site-uuid": "no"})

    assert [each.is_pending for each in (hit, bot, invalid)] == [True, False, False]
    assert [each.read().status for each in (bot, invalid)] == [202, 400]
    assert tinybird.call_count == 0
    assert hit.read() == Reply(202, STORED)


@pytest.mark.parametrize(
    "failure",
    [{"status_code": 503}, {"status_code": 400}, {"status_code": 422}, {"status_code": 413}, {"exc": requests.Timeout}],
    ids=str,
)
def test_all_events_of_a_batch_that_fails_are_stored_and_their_hits_answered_202(
    failure: dict[str, Any], service: Any, tinybird: Any
) -> None:
    tinybird.post(TARGET, **failure)

    assert serve_together(service.app, paths("/a", "/b", "/c")) == [Reply(202, RECEIVED)] * 3
    assert b"\n".join(spooled(service)) == tinybird.request_history[0].body
    assert tinybird.call_count == 1


def test_the_circuit_counts_failed_posts_and_not_their_hits(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=503)
    for _ in range(FAILURES_TO_OPEN + 2):
        serve_together(service.app, paths(*"abcdefgh"))

    assert tinybird.call_count == FAILURES_TO_OPEN
    assert len(spooled(service)) == 8 * (FAILURES_TO_OPEN + 2)


def test_a_batch_that_can_be_neither_sent_nor_stored_is_answered_503(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=503)
    (service.data_dir / "spool.sqlite3").rename(service.data_dir / "moved")

    assert [each.status for each in serve_together(service.app, paths("/a", "/b"))] == [503, 503]


def test_a_defect_is_answered_500_to_each_hit(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, exc=RuntimeError)

    assert [each.status for each in serve_together(service.app, paths("/a", "/b"))] == [500, 500]


def test_an_event_is_delivered_and_counted_though_the_server_drops_the_response(start: Any, tinybird: Any) -> None:
    service = start(METRICS="true")
    dropped, other = Request(service.app), Request(service.app)

    dropped.response.close()
    assert tinybird.call_count == 0  # the other one of the turn is not awaited yet
    other.on_ready(lambda: None)
    other.read()

    assert [len(each) for each in posted(tinybird)] == [2]
    metrics = service.client.get("/metrics").text
    assert 'traffic_analytics_hits_total{outcome="accepted",rule=""} 2.0' in metrics
    assert 'sent_events_total{data_source="analytics_events",result="taken",way="direct"} 2.0' in metrics


@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_a_hit_is_served_as_pep_3333_requires(delivery: str, start: Any) -> None:
    service = start(DELIVERY=delivery)
    service.app.wsgi_app = validator(service.app.wsgi_app)

    with service.hit() as answer:
        assert answer.status_code == 202


# -- without a spool


@pytest.fixture
def unspooled(start: Any) -> Any:
    return start(TINYBIRD_TRACKER_TOKEN="")


def with_token(name: str, token: str = "one") -> dict[str, str]:
    return {"pathname": name, "target": f"{HIT}&token={token}"}


def test_each_token_has_posts_of_its_own(unspooled: Any, tinybird: Any) -> None:
    hits = [with_token("/a"), with_token("/b", "two"), with_token("/c"), with_token("/d", "two")]

    assert serve_together(unspooled.app, hits) == [Reply(202, STORED)] * 4
    tokens = [request.qs["token"][0] for request in tinybird.request_history]
    assert dict(zip(tokens, posted(tinybird), strict=True)) == {"one": ["/a", "/c"], "two": ["/b", "/d"]}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_without_a_spool_only_the_browser_of_the_guilty_event_gets_the_error(
    status: int, unspooled: Any, tinybird: Any
) -> None:
    def poisoned(request: Any, context: Any) -> dict[str, int]:
        context.status_code = status if b'"/poison"' in request.body else 202
        return all_rows_fit(request, context)

    tinybird.post(TARGET, json=poisoned)
    names = ["/a", "/poison", "/b", "/c", "/d"]

    replies = serve_together(unspooled.app, [with_token(name) for name in names])

    assert [each.status for each in replies] == [202, 502, 202, 202, 202]
    assert replies[1].json == {"error": "Proxy error"}
    accepted = [name for post in posted(tinybird) if "/poison" not in post for name in post]
    assert sorted(accepted) == ["/a", "/b", "/c", "/d"]


def test_a_batch_that_fails_for_another_reason_is_sent_once(unspooled: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=503)

    assert [each.status for each in serve_together(unspooled.app, [with_token("/a"), with_token("/b")])] == [502, 502]
    assert tinybird.call_count == 1


def test_a_refused_batch_is_not_halved_further_once_a_post_fails(unspooled: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, [{"status_code": 400}, {"status_code": 503}])

    hits = [with_token(f"/{number}") for number in range(8)]
    assert [each.status for each in serve_together(unspooled.app, hits)] == [502] * 8
    assert [len(each) for each in posted(tinybird)] == [8, 4]


class SlowRefusing:
    """A target that refuses every post after a while."""

    NAME = WRONG_SETUP = "the target"

    def __init__(self, now: Clock[float], seconds: float) -> None:
        self.sizes: list[int] = []
        self._now = now
        self._seconds = seconds

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> delivery_target.Reply:
        self.sizes.append(len(events))
        self._now.now += self._seconds
        return delivery_target.Reply(Verdict.REFUSED, "status 400", 400)

    def post_batch(self, data_source: str, events: list[bytes]) -> delivery_target.Reply:
        raise NotImplementedError


def test_a_refused_batch_is_halved_only_while_browsers_wait() -> None:
    now = Clock(1000.0)
    target = SlowRefusing(now, 0.6 * HALVING_TIMEOUT)
    unspooled = UnspooledDelivery(target, make_pace(1), now)
    pending = [unspooled.submit("analytics_events", b"{}", None) for _ in range(8)]

    assert all(isinstance(each.wait(), UpstreamFailed) for each in pending)
    assert target.sizes == [8, 4, 4]


# -- the spool


def test_hits_of_one_turn_are_stored_in_one_commit(start: Any, tinybird: Any) -> None:
    service = start(DELIVERY="spool")

    assert serve_together(service.app, paths("/a", "/b", "/c")) == [Reply(202, RECEIVED)] * 3

    assert [json.loads(each)["payload"]["pathname"] for each in spooled(service)] == ["/a", "/b", "/c"]
    assert tinybird.call_count == 0


def test_an_unusable_spool_is_answered_503_to_each_hit(start: Any) -> None:
    service = start(DELIVERY="spool")
    (service.data_dir / "spool.sqlite3").rename(service.data_dir / "moved")

    assert [each.status for each in serve_together(service.app, paths("/a", "/b"))] == [503, 503]


def test_hits_of_several_turns_are_each_answered(start: Any, tinybird: Any) -> None:
    service = start(DELIVERY="spool")
    results: list[list[Reply]] = []
    barrier = threading.Barrier(4)

    def turns(number: int) -> None:
        barrier.wait(PATIENCE)
        names = [[f"/{number}-{turn}-{n}" for n in range(5)] for turn in range(20)]
        results.extend(serve_together_later(service.app, each) for each in names)

    threads = [threading.Thread(target=turns, args=[number], daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert results == [[Reply(202, RECEIVED)] * 5] * 80
    assert len(spooled(service)) == 400


def serve_together_later(app: Any, names: list[str]) -> list[Reply]:
    """Serve hits in one turn, and wait until all are called back, in whichever thread."""
    pending = [Request(app, pathname=name) for name in names]
    ready = threading.Semaphore(0)
    for each in pending:
        each.on_ready(ready.release)
    for _ in pending:
        assert ready.acquire(timeout=PATIENCE)
    return [each.read() for each in pending]
