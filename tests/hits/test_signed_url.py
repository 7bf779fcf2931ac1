from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.app import golden
from traffic_analytics.errors import UnsignedUrl
from traffic_analytics.hits import signed_url

SECRET = "TEST-HMAC-SECRET"


@pytest.mark.parametrize("case", golden("signed_urls.jsonl"), ids=lambda case: case["name"])
def test_a_recorded_url_is_accepted_or_refused_as_recorded(case: dict[str, Any], start: Any) -> None:
    service = start(HMAC_SECRET=case["secret"], HMAC_VALIDATION_LOG_ONLY=str(case["log_only"]).lower())
    service.now = datetime.fromtimestamp(case["now"], UTC)

    answer = service.hit(target=case["target"])

    assert answer.status_code == case["status"]
    assert answer.json.get("message") == case["message"]
    for request in service.tinybird.request_history:
        assert request.query == "name=analytics_events"


def test_a_signature_covers_the_path_as_it_arrived(start: Any) -> None:
    service = start(HMAC_SECRET=SECRET)
    now = int(service.now.timestamp())
    target = f"/.ghost/analytics/api/v1/page_hit/?name=analytics_events&t={now}"

    signed = f"{target}&hmac={signed_url.sign(target, SECRET.encode()).decode()}"
    moved = signed.replace("/.ghost/analytics", "")

    assert service.hit(target=signed).status_code == 202
    assert service.hit(target=moved).status_code == 401


def test_the_signature_covers_the_url_as_browsers_serialise_it() -> None:
    query = "name=analytics_events&tilde=%7E&star=*&plus=a+b&accent=%C3%A9&t=1000"
    signature = signed_url.sign(
        "/p?name=analytics_events&tilde=%7E&star=*&plus=a+b&accent=%C3%A9&t=1000", b"k"
    ).decode()
    as_written_by_another_client = "name=analytics_events&tilde=~&star=%2a&plus=a%20b&accent=%c3%a9&t=1000"

    signed_url.verify(f"/p?{query}&hmac={signature}", b"k", 1000.0)
    signed_url.verify(f"/p?hmac={signature}&{as_written_by_another_client}", b"k", 1000.0)


@pytest.mark.parametrize(("age", "valid"), [(300, True), (300.5, False), (-5, True), (-5.5, False)])
def test_a_signature_is_valid_from_five_minutes_old_to_five_seconds_ahead(age: float, valid: bool) -> None:
    signed = f"/p?t=10000&hmac={signed_url.sign('/p?t=10000', b'k').decode()}"

    if valid:
        signed_url.verify(signed, b"k", 10_000 + age)
    else:
        with pytest.raises(UnsignedUrl, match="allowed range"):
            signed_url.verify(signed, b"k", 10_000 + age)


def test_a_body_too_large_is_refused_before_the_signature_is_checked(start: Any) -> None:
    assert start(HMAC_SECRET=SECRET).hit(b" " * 20_481).status_code == 413


@pytest.mark.parametrize(
    "query", ["t=%ff&hmac=x", "t=1000&hmac=%ff", "t=1000&hmac=%ff&hmac=x", "%ff=%ff&t=%c3&hmac=%c3"]
)
def test_invalid_utf_8_is_no_signature(query: str) -> None:
    with pytest.raises(UnsignedUrl):
        signed_url.verify(f"/p?{query}", b"k", 1000.0)
