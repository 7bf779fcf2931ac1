from __future__ import annotations

import pytest

from traffic_analytics.runtime.authorization import bearer_token


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        (" BEARER   abc ", "abc"),
        ("Bearer a b", "a b"),
        ("Bearer ", ""),
        ("Bearer", ""),
        ("", None),
        ("abc", None),
        ("Basic abc", None),
        ("BearerX abc", None),
    ],
)
def test_the_token_is_the_text_after_the_scheme(authorization: str, token: str | None) -> None:
    assert bearer_token(authorization) == token
