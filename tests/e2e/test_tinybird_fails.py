"""Test failures of Tinybird: no browser waits long, and no event is lost.

The scenarios mostly wait, so they run in parallel, each with its own service and Tinybird.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import pytest

from tests.support import fake_tinybird
from tests.support.browsers import hit, hit_together
from tests.support.fake_tinybird import Answer, FakeTinybird, Request, always, taken
from tests.support.processes import wait_until
from tests.support.running import running
from tests.support.steady_load import steady_load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.browsers import Outcome
    from tests.support.service import Service

pytestmark = pytest.mark.e2e

BROWSER_TIMEOUT = 5.0
"""Time until a browser aborts a hit, in seconds."""
AT_ONCE = 1.0
"""Limit for a response that waits for nothing, in seconds; some milliseconds on an idle machine."""

PASSING = {
    "refused": None,
    "hanging": fake_tinybird.hanging,
    "reset in mid-answer": fake_tinybird.reset_in_mid_answer,
    "a body that drips": fake_tinybird.dripping,
    "headers that drip": fake_tinybird.dripping_headers,
    "429": always(429),
    "500": always(500),
    "503": always(503),
}


def start_failing(fake: FakeTinybird, failure: Callable[[Request], Answer] | None) -> None:
    if failure is None:
        fake.refuse()
    else:
        fake.fail(failure)


def accepted_ids(outcomes: list[Outcome]) -> list[str]:
    """Return the event ids of hits, all of which must have been accepted."""
    assert {each.status for each in outcomes} == {202}
    return [each.event_id for each in outcomes]


def assert_each_delivered_once(service: Service, fake: FakeTinybird, event_ids: list[str], timeout: float) -> float:
    started = time.monotonic()
    fake.wait_for(event_ids, timeout)
    needed = time.monotonic() - started
    wait_until(lambda: service.waiting() == 0)
    delivered = fake.delivered
    assert {each: delivered[each] for each in event_ids if delivered[each] != 1} == {}
    return needed


def batches(fake: FakeTinybird) -> list[Request]:
    """Return the batches of the forwarder; hits that a test posts one after the other are sent alone."""
    return [each for each in list(fake.requests) if each.is_batch]


def is_sent_directly(service: Service, fake: FakeTinybird) -> bool:
    """Post a hit and return whether it was sent within its request."""
    event_ids = accepted_ids(hit(service.port))
    return any(each.event_ids == event_ids and not each.is_batch for each in list(fake.requests))


# -- failures that pass


def direct_hits_are_spooled_during_a_failure(failure: Callable[[Request], Answer] | None, data_dir: Path) -> str:
    with running(data_dir, DELIVERY="direct", WEB_CONCURRENCY="1") as (service, fake):
        hits = accepted_ids(hit(service.port, 5))
        assert service.waiting() == 0
        start_failing(fake, failure)
        first: list[Outcome] = []
        while "CircuitOpened" not in service.log:
            first += steady_load(service.port, 50, 1.0)
            assert max(each.seconds for each in first) < BROWSER_TIMEOUT
            assert len(first) < 1000
        direct = sum(not each.is_batch for each in list(fake.requests))
        later = hit(service.port, 20)
        assert max(each.seconds for each in later) < AT_ONCE
        # No hit is sent directly while the circuit is open.
        assert sum(not each.is_batch for each in list(fake.requests)) == direct
        fake.heal()
        hits += accepted_ids(first) + accepted_ids(later)
        needed = assert_each_delivered_once(service, fake, hits, 30)
        wait_until(lambda: is_sent_directly(service, fake))
    waits = [each.seconds for each in first]
    return (
        f"answers {median(waits):.3f} s (at most {max(waits):.3f}), circuit open {median(e.seconds for e in later):.3f}"
        f" s (at most {max(e.seconds for e in later):.3f}), all delivered {needed:.1f} s after it healed"
    )


def spooled_hits_are_kept_during_a_failure(failure: Callable[[Request], Answer] | None, data_dir: Path) -> str:
    with running(data_dir, DELIVERY="spool", WEB_CONCURRENCY="1") as (service, fake):
        start_failing(fake, failure)
        outcomes = hit(service.port, 60)
        assert max(each.seconds for each in outcomes) < AT_ONCE
        if failure is not None:
            wait_until(lambda: batches(fake))
        fake.heal()
        needed = assert_each_delivered_once(service, fake, accepted_ids(outcomes), 30)
    return f"answers {median(each.seconds for each in outcomes):.3f} s, all delivered {needed:.1f} s after it healed"


def a_batch_that_is_never_answered_is_given_up_and_sent_again(data_dir: Path) -> str:
    def only_once(request: Request) -> Answer:
        return fake_tinybird.hanging(request) if request.number == 0 else taken(request)

    with running(data_dir, DELIVERY="spool") as (service, fake):
        fake.fail(only_once)
        event_ids = accepted_ids(hit(service.port, 10))
        needed = assert_each_delivered_once(service, fake, event_ids, 40)
    assert needed > 28
    return f"given up and delivered after {needed:.1f} s"


def half_of_the_requests_hang(data_dir: Path) -> str:
    def every_other(request: Request) -> Answer:
        return fake_tinybird.hanging(request) if request.number % 2 else taken(request)

    with running(data_dir, DELIVERY="direct", WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(every_other)
        outcomes = hit_together(service.port, 60)
        slowest = max(each.seconds for each in outcomes)
        fake.heal()
        assert_each_delivered_once(service, fake, accepted_ids(outcomes), 40)
        assert slowest < BROWSER_TIMEOUT
    return f"answers {median(each.seconds for each in outcomes):.3f} s, at most {slowest:.3f}"


def a_host_that_has_no_address(data_dir: Path) -> str:
    with running(data_dir, DELIVERY="direct", PROXY_TARGET="http://tinybird.invalid") as (service, fake):
        outcomes = hit_together(service.port, 20)
        assert max(each.seconds for each in outcomes) < BROWSER_TIMEOUT
        service.terminate()
        assert service.waiting() == 20
        service.environment["PROXY_TARGET"] = fake.url
        service.start()
        assert_each_delivered_once(service, fake, accepted_ids(outcomes), 20)
    return f"answers at most {max(each.seconds for each in outcomes):.3f} s"


# -- rate limits


def requests_pause_as_long_as_tinybird_demands(header: str, delivery: str, data_dir: Path) -> str:
    def too_fast(request: Request) -> Answer:
        return Answer(429, {header: "3"}, body={})

    with running(data_dir, DELIVERY=delivery, WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(too_fast)
        event_ids = accepted_ids(hit(service.port, 10))
        wait_until(lambda: len(batches(fake)) == 1)
        wait_until(lambda: len(batches(fake)) == 2)
        fake.heal()
        assert_each_delivered_once(service, fake, event_ids, 10)
        gaps = [later.arrived - earlier.arrived for earlier, later in pairwise(batches(fake))]
        assert 3.0 <= gaps[0] < 4.5
        assert 3.0 <= gaps[1] < 4.5
    return f"{header}: 3 s, tried again after {gaps[0]:.2f} and {gaps[1]:.2f} s"


def at_most_50_requests_are_sent_per_second(data_dir: Path) -> str:
    with running(data_dir, DELIVERY="spool", BATCH_SIZE="1") as (service, fake):
        fake.fail(always(503))
        event_ids = accepted_ids(hit_together(service.port, 100))
        fake.heal()
        assert_each_delivered_once(service, fake, event_ids, 20)
        arrivals = [each.arrived for each in batches(fake)]
        highest = max(sum(start <= each < start + 1 for each in arrivals) for start in arrivals)
        assert highest <= 52  # packets may be delayed
    return f"at most {highest} requests in a second"


# -- responses about events


def large_batches_are_refused(data_dir: Path) -> str:
    def at_most_ten(request: Request) -> Answer:
        return Answer(413, body={}) if len(request.event_ids) > 10 else taken(request)

    with running(data_dir, DELIVERY="spool") as (service, fake):
        event_ids = wait_in_one_batch(service, fake, 100)
        fake.fail(at_most_ten)
        needed = assert_each_delivered_once(service, fake, event_ids, 20)
        assert service.command("spool", "list") == ""
    return f"100 events in {needed:.1f} s"


def one_event_of_a_hundred_is_refused(status: int, data_dir: Path) -> str:
    def poisoned(request: Request) -> Answer:
        return Answer(status, body={}) if any(b"/poison/" in line for line in request.lines) else taken(request)

    with running(data_dir, DELIVERY="spool") as (service, fake):
        event_ids = wait_in_one_batch(service, fake, 60)
        (poison,) = accepted_ids(hit(service.port, pathname="/poison/"))
        event_ids += accepted_ids(hit_together(service.port, 39))
        fake.fail(poisoned)
        needed = assert_each_delivered_once(service, fake, event_ids, 20)
        (listed,) = service.command("spool", "list").splitlines()
        assert listed.endswith(f"status {status}")
        assert poison in service.command("spool", "export")
        assert poison not in fake.delivered
        assert "set aside  1" in service.command("spool", "status")
        assert_each_delivered_once(service, fake, accepted_ids(hit(service.port, 5)), 5)  # later events are delivered
        fake.heal()
        assert service.command("spool", "retry", "--all") == "1 events wait again\n"
        assert_each_delivered_once(service, fake, [poison], 10)
        assert service.command("spool", "list") == ""
        tries = sum(poison in each.event_ids for each in fake.requests if not each.taken)
    return f"the 99 others were delivered {needed:.1f} s after, with {tries} refusals"


def direct_hits_are_refused(status: int, data_dir: Path) -> str:
    def poisoned(request: Request) -> Answer:
        return Answer(status, body={}) if any(b"/poison/" in line for line in request.lines) else taken(request)

    with running(data_dir, DELIVERY="direct", WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(poisoned)
        poison = accepted_ids(hit_together(service.port, 10, pathname="/poison/"))
        others = accepted_ids(hit(service.port, 10))
        assert all(each in fake.delivered for each in others)  # sent directly: the circuit stayed closed
        wait_until(lambda: service.command("spool", "list").count(f"status {status}") == len(poison))
        assert service.waiting() == 0
    return "dead letters; the others were sent directly"


def a_wrong_token_is_corrected(delivery: str, status: int, data_dir: Path) -> str:
    with running(data_dir, DELIVERY=delivery, WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(always(status))
        outcomes = hit(service.port, 30)
        assert max(each.seconds for each in outcomes) < BROWSER_TIMEOUT
        wait_until(lambda: len(batches(fake)) >= 3, 30)
        assert service.log.count('"event": "DeliveryMisconfigured"') == 1
        assert f"status {status}" in service.log
        assert service.waiting() == 30
        fake.heal()
        needed = assert_each_delivered_once(service, fake, accepted_ids(outcomes), 30)
        assert service.command("spool", "list") == ""
    gaps = [later.arrived - earlier.arrived for earlier, later in pairwise(batches(fake))]
    assert gaps[0] > 2
    return f"tried again after {gaps[0]:.1f} and {gaps[1]:.1f} s; delivered {needed:.1f} s after it was corrected"


def quarantined_rows_are_logged(data_dir: Path) -> str:
    def quarantining(request: Request) -> Answer:
        return Answer(202, body={"successful_rows": 0, "quarantined_rows": len(request.event_ids)})

    with running(data_dir, DELIVERY="spool") as (service, fake):
        fake.fail(quarantining)
        assert_each_delivered_once(service, fake, accepted_ids(hit(service.port, 3)), 10)
        wait_until(lambda: "RowsQuarantined" in service.log)
    return "logged"


def wait_in_one_batch(service: Service, fake: FakeTinybird, count: int) -> list[str]:
    """Store events in the spool, none of which was ever sent alone."""
    fake.fail(always(503))
    return accepted_ids(hit_together(service.port, count))


def all_scenarios() -> Iterator[tuple[str, Callable[[Path], str]]]:
    # The longest start first; the others run meanwhile.
    yield "spool: a batch is never answered", a_batch_that_is_never_answered_is_given_up_and_sent_again
    for delivery, status in (("direct", 403), ("spool", 401), ("spool", 404)):
        yield f"{delivery}: {status}", partial(a_wrong_token_is_corrected, delivery, status)
    for name, failure in PASSING.items():
        yield f"direct: {name}", partial(direct_hits_are_spooled_during_a_failure, failure)
    for name, failure in PASSING.items():
        yield f"spool: {name}", partial(spooled_hits_are_kept_during_a_failure, failure)
    yield "direct: half of the requests hang", half_of_the_requests_hang
    yield "direct: no address", a_host_that_has_no_address
    yield "direct: 429 with Retry-After", partial(requests_pause_as_long_as_tinybird_demands, "Retry-After", "direct")
    yield "spool: 429 with Retry-After", partial(requests_pause_as_long_as_tinybird_demands, "Retry-After", "spool")
    yield "spool: 429 with Reset", partial(requests_pause_as_long_as_tinybird_demands, "X-RateLimit-Reset", "spool")
    yield "spool: 50 requests a second", at_most_50_requests_are_sent_per_second
    yield "spool: 413", large_batches_are_refused
    for status in (400, 422):
        yield f"spool: {status} for one event", partial(one_event_of_a_hundred_is_refused, status)
    for status in (400, 413, 422):
        yield f"direct: {status} for one event", partial(direct_hits_are_refused, status)
    yield "spool: quarantine", quarantined_rows_are_logged


SCENARIOS = dict(all_scenarios())


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """Run the selected scenarios in parallel."""
    selected = [
        str(item.callspec.params["scenario"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    with ThreadPoolExecutor(6) as pool:
        yield {name: pool.submit(SCENARIOS[name], tmp_path_factory.mktemp("scenario") / "data") for name in selected}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_event_is_lost_and_no_browser_waits(scenario: str, results: dict[str, Future[str]]) -> None:
    print(results[scenario].result())
