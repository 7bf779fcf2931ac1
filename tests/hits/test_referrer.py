from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from traffic_analytics.hits import referrer
from traffic_analytics.hits.referrer import Known, Referrer, classify

PAGE = "https://blog.example/some/post/"
GOLDEN = [
    json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "referrers.jsonl").read_text().splitlines()
]

anything = st.text(st.characters(), max_size=60)
urls = st.one_of(
    anything,
    st.builds("{}://{}/{}".format, st.sampled_from(["http", "https", "android-app", "x"]), anything, anything),
    st.builds("https://google.com{}".format, anything),
)


def as_recorded(classified: Referrer | None) -> dict[str, str | None]:
    if classified is None:
        return {}
    return {"referrerUrl": classified.url, "referrerSource": classified.source, "referrerMedium": classified.medium}


def test_every_recorded_referrer_is_named_as_the_node_service_names_it() -> None:
    assert len(GOLDEN) > 1900
    assert [case for case in GOLDEN if as_recorded(classify(**case["in"], page_href=PAGE)) != case["out"]] == []


@pytest.mark.parametrize("url", [None, ""])
def test_without_a_url_there_is_no_referrer_whatever_else_is_given(url: str | None) -> None:
    assert classify(url, "google", "cpc", PAGE) is None


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://blog.example/", PAGE),
        ("https://www.blog.example/x", PAGE),
        ("http://blog.example:8080/", "https://www.blog.example/"),
        ("https://BLOG.example\\x", PAGE),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://ghost.org/explore", "https://ghost.org/blog/"),
        ("https://google.com/", "https://www.google.com/"),
    ],
)
def test_a_blog_is_no_source_of_its_own_traffic(url: str, page: str) -> None:
    assert classify(url, None, None, page) is None
    assert classify(url, "", "", page) is None


@pytest.mark.parametrize(
    "page", ["https://other.blog.example/", "https://blog.example.com/", "blog.example", "", "\ud800"]
)
def test_another_site_is_a_source_even_if_its_name_is_alike(page: str) -> None:
    assert classify("https://blog.example/", None, None, page) == ("blog.example", "blog.example", None)


def test_a_source_that_is_given_counts_even_on_the_blog_itself() -> None:
    assert classify(PAGE, "my-newsletter", None, PAGE) == ("blog.example", "my newsletter", "Email")


@pytest.mark.parametrize(
    ("url", "source", "medium", "expected"),
    [
        ("ghost-explore", "ghost-explore", None, (None, "Ghost Explore", "Ghost Network")),
        ("https://ghost.org/explore/x", "google", "cpc", ("ghost.org", "Ghost Explore", "Ghost Network")),
        ("https://ghost.org/", "my-newsletter", None, ("ghost.org", "Ghost.org", "Ghost Network")),
        ("https://www.ghost.org/", None, None, ("www.ghost.org", "www.ghost.org", None)),
        ("ghost-newsletter", None, None, (None, None, None)),
        ("https://x.example/", "ghost-newsletter", "web", ("x.example", "ghost newsletter", "Email")),
        ("https://x.example/", "GOOGLE", "cpc", ("x.example", "Google", "unknown")),
        ("https://x.example/", "Mine", "", ("x.example", "Mine", None)),
        ("https://x.example/", "Mine", "cpc", ("x.example", "Mine", "cpc")),
        ("https://duckduckgo.com/", "Mine", None, ("duckduckgo.com", "Mine", "search")),
        ("https://duckduckgo.com/", "", "cpc", ("duckduckgo.com", "DuckDuckGo", "search")),
    ],
)
def test_the_first_matching_rule_classifies_the_referrer(
    url: str, source: str | None, medium: str | None, expected: tuple[str | None, ...]
) -> None:
    assert classify(url, source, medium, PAGE) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://google.co.uk/x", ("google.co.uk", "Google", "search")),
        ("https://google.co.uk/imgres?q=1", ("google.co.uk", "Google Images", "search")),
        ("https://google.co.uk/imgres/deeper/still", ("google.co.uk", "Google Images", "search")),
        ("https://google.co.uk/imgresult", ("google.co.uk", "Google", "search")),
        ("https://sozluk.com/a", ("sozluk.com", "Eksi Sozluk", "social")),
        ("https://apollo.lv/portal/search/x", ("apollo.lv", "Apollo Latvia", "search")),
        ("https://apollo.lv/portal/searching", ("apollo.lv", "apollo.lv", None)),
        ("https://t.co/abc", ("t.co", "Twitter", "social")),
        ("https://t.company/", ("t.company", "t.company", None)),
        ("https://not.duckduckgo.com.example/", ("not.duckduckgo.com.example", "not.duckduckgo.com.example", None)),
    ],
)
def test_hosts_match_whole_and_paths_in_whole_segments(url: str, expected: tuple[str | None, ...]) -> None:
    assert classify(url, None, None, PAGE) == expected


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https:\\\\x.example\\a", "x.example"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("https://user:pass@X.Example:99/", "x.example"),
        ("android-app://com.example.reader/", "com.example.reader"),
        ("mailto:x@y.example", None),
        ("//x.example/", None),
        ("https://a b/", None),
        ("https://a\ud800b/", None),
    ],
)
def test_hosts_are_as_browsers_see_them(url: str, host: str | None) -> None:
    assert classify(url, None, None, PAGE) == (host, host, None)


def test_a_source_of_several_sites_has_the_medium_of_the_first_in_the_list() -> None:
    first: dict[str, Known] = {}
    for known in referrer._list().values():
        first.setdefault(known.source.lower(), known)
    several = [
        name for name in first if len({k.medium for k in referrer._list().values() if k.source.lower() == name}) > 1
    ]
    assert several
    for name in several:
        assert classify("https://x.example/", name, "cpc", PAGE) == (
            "x.example",
            first[name].source,
            first[name].medium,
        )


@given(urls, st.none() | anything, st.none() | anything, urls)
@example("https://google.com/\ud800", "\ud800", "\udfff", "\ud800")
def test_any_text_can_be_classified(url: str, source: str | None, medium: str | None, page: str) -> None:
    classify(url, source, medium, page)


def test_a_path_of_twenty_thousand_slashes_is_looked_up_a_few_times_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookups: list[str] = []

    class Sites(dict[str, Known]):
        def get(self, key: str, default: Any = None) -> Any:
            lookups.append(key)
            return super().get(key, default)

    sites, deepest = referrer._sites()
    monkeypatch.setattr(referrer, "_sites", lambda: (Sites(sites), deepest))
    assert classify("https://google.com/" + "/" * 20_000, None, None, PAGE) == ("google.com", "Google", "search")
    assert len(lookups) <= deepest + 1
    assert max(map(len, lookups)) < 100
