"""Test which connections are closed when there are too many, or hold too much."""

from __future__ import annotations

import socket

import pytest

from tests.support.request_heads import parse_head
from traffic_analytics.gunicorn_worker.connection import Connection
from traffic_analytics.gunicorn_worker.connection_table import (
    PARSED_SIZE,
    PEER_LIMIT,
    RECEIVED_LIMIT,
    UNSENT_LIMIT,
    USUAL_REQUEST,
    ConnectionTable,
)


@pytest.fixture
def table() -> ConnectionTable:
    return ConnectionTable()


def connect(table: ConnectionTable, stage: dict[Connection, None] | None = None, address: str = "") -> Connection:
    with socket.socket() as closed:
        connection = Connection(closed, (address, 1), parse_head, table.peer((address, 1)) if address else None)
    table.add(connection)
    table.enter(table.idle if stage is None else stage, connection, 10.0)
    return connection


def receive(table: ConnectionTable, connection: Connection, size: int) -> None:
    connection.buffer += b"x" * size
    table.count(connection)


def close_surplus(table: ConnectionTable) -> list[Connection]:
    closed = []
    for connection in table.too_many_bytes():
        table.remove(connection)
        closed.append(connection)
    return closed


@pytest.mark.parametrize("crowded", ["draining", "idle", "reading", "writing"])
def test_the_oldest_of_the_largest_stage_is_closed_for_a_new_connection(crowded: str, table: ConnectionTable) -> None:
    for stage in table.stages:
        connect(table, stage)
    crowd = getattr(table, crowded)
    oldest = next(iter(crowd))
    connect(table, crowd)

    assert table.oldest() is oldest


def test_busy_connections_are_not_closed(table: ConnectionTable) -> None:
    connection = connect(table)
    table.enter(None, connection)

    assert table.oldest() is None


def test_a_connection_expires_at_its_deadline_and_not_before(table: ConnectionTable) -> None:
    connection = connect(table)

    assert list(table.expired(9.9)) == []
    assert next(table.expired(10.0)) is connection


def test_beyond_the_limit_the_oldest_long_requests_are_closed(table: ConnectionTable) -> None:
    size = 64 * 1024
    first, small = connect(table, table.reading), connect(table, table.reading)
    receive(table, first, USUAL_REQUEST + 1)
    receive(table, small, USUAL_REQUEST)
    others = [connect(table, table.reading) for _ in range(RECEIVED_LIMIT // size + 1)]
    for each in others:
        receive(table, each, size)

    assert close_surplus(table) == [first, others[0]]
    assert table.received == RECEIVED_LIMIT


def test_a_new_long_request_is_closed_if_only_queued_ones_are_held(table: ConnectionTable) -> None:
    queued = connect(table)
    receive(table, queued, RECEIVED_LIMIT)
    queued.busy = True
    table.enter(None, queued)
    table.count(queued)
    usual, long = connect(table), connect(table)
    receive(table, usual, USUAL_REQUEST)
    receive(table, long, USUAL_REQUEST + 1)

    assert close_surplus(table) == [long]


def test_a_large_body_is_not_counted(table: ConnectionTable) -> None:
    connection = connect(table, table.reading)
    receive(table, connection, USUAL_REQUEST * 2)

    table.holding_large.add(connection)
    receive(table, connection, RECEIVED_LIMIT * 2)

    assert table.received == 0
    assert close_surplus(table) == []


def test_beyond_the_limit_of_unsent_bytes_the_oldest_responses_are_dropped_but_the_last(table: ConnectionTable) -> None:
    first, second, last = (connect(table, table.writing) for _ in range(3))
    for each, size in ((first, 10), (second, 10), (last, UNSENT_LIMIT + 1)):
        table.hold_response(each, b"x" * size)

    assert close_surplus(table) == [first, second]
    table.remove(last)
    assert (table.unsent, table.received, table.all) == (0, 0, set())


@pytest.mark.parametrize(
    ("addresses", "other"),
    [
        (["192.0.2.1"], "192.0.2.2"),
        (["192.0.2.1", "::ffff:192.0.2.1"], "::ffff:192.0.2.2"),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"], "2001:db8:0:1::1"),
        (["fe80::1%eth0", "fe80::2"], "192.0.2.1"),
    ],
)
def test_an_address_or_ipv6_network_closes_its_own_oldest_connection(
    addresses: list[str], other: str, table: ConnectionTable
) -> None:
    table.limit_peers = True
    own = [connect(table, address=addresses[number % len(addresses)]) for number in range(PEER_LIMIT)]
    foreign = connect(table, address=other)
    table.enter(None, own[0])

    assert table.one_too_many_of_its_peer(own[-1]) is None
    newest = connect(table, address=addresses[-1])
    assert table.one_too_many_of_its_peer(foreign) is None
    assert table.one_too_many_of_its_peer(newest) is own[1]

    for each in (*own, newest):
        table.remove(each)
    newcomer = connect(table, address=addresses[0])
    assert table.one_too_many_of_its_peer(newcomer) is None


def test_addresses_are_limited_only_if_asked_for(table: ConnectionTable) -> None:
    newest = [connect(table, address="192.0.2.1") for _ in range(PEER_LIMIT + 1)][-1]

    assert table.one_too_many_of_its_peer(newest) is None
    assert table.peer("/a/unix/socket") is None


def test_headers_that_are_parsed_count_as_well(table: ConnectionTable) -> None:
    connection = connect(table, table.reading)
    head = b"POST / HTTP/1.1\r\nContent-Length: 5\r\nX: " + b"x" * USUAL_REQUEST + b"\r\n\r\n"
    receive(table, connection, 0)
    connection.buffer += head
    connection.framing.progress(connection.buffer)

    table.count(connection)

    assert table.received == (1 + PARSED_SIZE) * len(head)
    table.remove(connection)
    assert table.received == 0
