"""All names and hosts of one source are one source, however a client writes them."""

import pytest
from flask.testing import FlaskClient

from analytics_store.sources import KNOWN, name_source
from tests.support.store import hit, ndjson

# The names that Ghost's own list collapses (mv_hits.pipe of Ghost 6.65).
GHOSTS = {
    "AOL Mail": ["AOL Mail"],
    "AppNexus": ["AppNexus"],
    "Apple News": ["apple.news"],
    "Bluesky": ["go.bsky.app", "bsky", "bsky.app"],
    "Brave Search": ["search.brave.com"],
    "Buffer": ["buffer"],
    "Ecosia": ["www.ecosia.org"],
    "Facebook": ["Facebook", "www.facebook.com", "l.facebook.com", "lm.facebook.com", "m.facebook.com", "facebook"],
    "Flipboard": ["flipboard", "flipboard.com", "flipboard.app"],
    "Ghost": ["Ghost.org", "ghost.org"],
    "Gmail": ["Gmail", "com.google.android.gm", "mail.google.com"],
    "Ground News": ["ground.news"],
    "Instagram": ["Instagram", "www.instagram.com"],
    "LinkedIn": ["LinkedIn", "LINKEDIN_COMPANY"],
    "Mastodon": [
        "mastodon.social",
        "mastodon.online",
        "org.joinmastodon.android",
        "phanpy.social",
        "dev.phanpy.social",
    ],
    "Memeorandum": ["www.memeorandum.com", "memeorandum.com"],
    "Outlook": ["Outlook.com"],
    "Reddit": ["www.reddit.com", "out.reddit.com", "old.reddit.com", "com.reddit.frontpage"],
    "SmartNews": ["www.smartnews.com"],
    "Substack": ["substack", "substack.com"],
    "Taboola": ["Taboola"],
    "Threads": ["l.threads.com"],
    "Twitter": ["Twitter", "x.com", "com.twitter.android"],
    "Wikipedia": ["en.wikipedia.org", "en.m.wikipedia.org"],
    "Yahoo!": ["Yahoo!", "www.yahoo.com", "Yahoo! Mail", "r.search.yahoo.com"],
}


def spellings(name: str) -> list[str]:
    """List the ways in which clients write a host; a name that is no host has its capitals only."""
    if "." not in name:
        return [name, name.upper(), name.lower()]
    bare = name.removeprefix("www.")
    return [
        written
        for host in (bare, f"www.{bare}")
        for written in (
            host,
            host.upper(),
            host.title(),
            f"{host}.",
            f"{host}:443",
            f"{host}/a?b=c#d",
            f"http://{host}",
            f"https://{host}:8443/a/b?c=https://other.example/#d",
            f"HTTPS://{host.upper()}./",
            f"//{host}/a",
            f"https://user:secret@{host}/",
        )
    ]


@pytest.mark.parametrize(("source", "name"), [(source, name) for source, names in GHOSTS.items() for name in names])
def test_every_spelling_of_ghosts_names_is_one_source(source: str, name: str) -> None:
    assert {name_source(written) for written in spellings(name)} == {source}


@pytest.mark.parametrize(
    "host",
    ["perplexity.ai", "a.b.example.co.uk", "xn--mnchen-3ya.example", "münchen.example", "192.0.2.7", "my_host.example"],
)
def test_every_spelling_of_any_other_host_is_its_domain_without_www(host: str) -> None:
    assert {name_source(written) for written in spellings(host)} == {host}


@pytest.mark.parametrize("written", ["[2001:db8::1]", "[2001:DB8::1]:8080", "http://[2001:db8::1]:8080/a"])
def test_an_ipv6_address_is_one_source(written: str) -> None:
    assert name_source(written) == "2001:db8::1"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "newsletter-x",
            "Ünï source",
            "St. Louis News",
            "Vol. 2",
            "news@blog.example",
            "about:blank",
            "x" * 20_000,
        ),
        *("Weekly: issue 7", "http://[", "https://", "://", ".", "..", "www.", "a..b", "localhost", "DuckDuckGo"),
        *("Last.fm", "Mail.ru"),
    ],
)
def test_any_other_text_stays_as_it_is(name: str) -> None:
    assert name_source(name) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [("last.fm", "Last.fm"), ("https://www.last.fm/x", "Last.fm"), ("search.yahoo.com", "search.yahoo.com")]
    + [(f"{sub}.facebook.com", "Facebook") for sub in ("de-de", "web", "touch")]
    + [(f"https://{sub}.x.com/", "Twitter") for sub in ("mobile",)]
    + [(host, host) for host in ("notfacebook.com", "netflix.com", "facebook.com.example", "sub.example.org")],
)
def test_subdomains_belong_to_a_source_and_hosts_that_only_look_alike_do_not(written: str, name: str) -> None:
    assert name_source(written) == name


def test_a_source_is_named_once_and_its_name_is_its_own() -> None:
    assert {name_source(variant) for variant in KNOWN} == set(KNOWN.values())
    assert all(name_source(name) == name for name in KNOWN.values())


def test_bare_hosts_with_and_without_www_are_counted_together(client: FlaskClient) -> None:
    written = ["www.perplexity.ai", "perplexity.ai", "https://www.perplexity.ai/search", "Perplexity.AI", ""]
    events = [hit(session_id=f"s{n}", payload={"referrerSource": source}) for n, source in enumerate(written)]
    events.append(hit(session_id="meta", payload={"meta": {"referrerSource": "www.perplexity.ai."}}))
    client.post("/v0/events?name=analytics_events&wait=true", data=ndjson(events))
    rows = client.get("/v0/pipes/api_top_sources.json?site_uuid=site&date_from=2026-11-22").get_json()["data"]
    assert rows == [{"source": "perplexity.ai", "visits": 5}, {"source": "", "visits": 1}]
