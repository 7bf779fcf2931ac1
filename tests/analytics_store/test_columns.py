"""The columns of the store, their contract with existing files, and their completeness for the service's events."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from analytics_store.columns import TEXTS
from analytics_store.duckdb_engine.statements import read_sql, repeat_lines
from tests.support.app import Service, page_hit

# As in every file written so far: a compaction copies rows into a new file, and an older version may open it again.
HITS = (
    "site_uuid ts session_no event_key event_name version source received_at inserted_at member_uuid member_status "
    "post_uuid post_type gift_link locale location pathname href device os browser user_agent utm_source utm_medium "
    "utm_campaign utm_term utm_content meta rest"
)
SESSIONS = (
    "session_no session_key site_uuid session_id first_ts last_ts pageviews source device utm_source utm_medium "
    "utm_campaign utm_term utm_content statuses location os browser"
)


def test_the_tables_have_the_columns_of_existing_files() -> None:
    connection = duckdb.connect()
    connection.execute(read_sql("sql/schema.sql"))
    for table, columns in (("hits", HITS), ("sessions", SESSIONS)):
        assert " ".join(row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()) == columns
    connection.close()


def test_a_line_with_a_placeholder_is_repeated_for_each_name_of_its_list() -> None:
    assert repeat_lines("SELECT ts\n    , '@field': @text\nFROM hits").splitlines()[11:15] == [
        "    , 'os': os",
        "    , 'browser': browser",
        "    , 'user-agent': user_agent",
        "    , 'utm_source': utm_source",
    ]


ENGINE = Path("analytics_store/duckdb_engine")
# Fields of the service's payload that the store reads into other columns.
ELSEWHERE = {"event_id", "site_uuid", "meta", "referrerSource"}
# Fields that no query reads: the store puts them in `rest`, for the export.
ONLY_EXPORTED = {"parsedReferrer", "referrerUrl", "referrerMedium"}


def test_every_field_of_the_services_payload_has_a_place_in_the_store(start: Callable[[], Service]) -> None:
    service = start()
    texts = dict.fromkeys(("gift_link", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"), "x")
    referrer = {"source": "t.co", "medium": None, "url": "https://t.co/"}
    assert service.hit(page_hit(parsedReferrer=referrer, **texts)).status_code == 202

    (event,) = service.events
    assert set(event["payload"]) == set(TEXTS) | ELSEWHERE | ONLY_EXPORTED


@pytest.mark.parametrize("path", sorted(ENGINE.rglob("*.sql")), ids=str)
def test_no_placeholder_is_left_in_a_statement(path: Path) -> None:
    assert "@" not in read_sql(str(path.relative_to(ENGINE)))
