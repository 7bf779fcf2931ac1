"""`doctor` follows a hit through a blog, nginx, service and store, and advises what to do about each broken link."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.blog import NGINX, SITE, Blog
from tests.support.embedded_store import ask, ghost_token
from tests.support.running import running_with_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]

INSTALLATION = {"TRUST_PROXY": "1", "ALLOWED_SITES": SITE}
SECRET = "p.not-the-token-of-the-store"


def run_doctor(service: Service, url: str) -> dict[str, Any]:
    """Return the advice by step; no advice is None."""
    report = json.loads(service.command("doctor", url, "--json", check=False))
    advice = {step["name"].partition(" http")[0]: step["advice"] for step in report["steps"]}
    assert report["ok"] == (set(advice.values()) == {None})
    assert SECRET not in json.dumps(report)
    return advice


@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_every_step_of_a_working_installation_is_good(delivery: str, tmp_path: Path) -> None:
    with (
        running_with_store(tmp_path, **INSTALLATION, DELIVERY=delivery, STATS_CACHE_SECONDS="60") as (service, store),
        Blog(tmp_path, service.port) as blog,
    ):
        output = service.command("doctor", blog.url, check=False)

        assert output.count("ok    ") == len(output.splitlines()), output
        for step in (
            "store at",
            "clock",
            "script",
            "address of hits",
            "proxies",
            "test hit",
            f"statistics at {blog.url}",
        ):
            assert f"ok    {step}" in output
        assert len(store.event_ids()) == 1
        pages = ask(service.port, "api_top_pages", ghost_token(SITE, "api_top_pages")).json()["data"]
        assert pages == []  # the blog's numbers are as they were


@pytest.mark.parametrize(
    ("environment", "failing", "words"),
    [
        ({"TINYBIRD_TRACKER_TOKEN": SECRET}, "Tinybird at", "refuses the token (status 403)"),
        ({"TINYBIRD_ADMIN_TOKEN": SECRET}, "statistics at", "refuses a token signed with TINYBIRD_ADMIN_TOKEN"),
        ({"TRUST_PROXY": "2"}, "proxies", "visitors can choose their address: set TRUST_PROXY=1"),
        ({"TRUST_PROXY": "true"}, "proxies", "visitors can choose their address: set TRUST_PROXY=1"),
        ({"TRUST_PROXY": "false"}, "proxies", "all visitors have the address of a proxy: set TRUST_PROXY=1"),
        ({"ALLOWED_SITES": SITE[:-1] + "0"}, "script ghost-stats.js", f"{SITE}, which ALLOWED_SITES does not list"),
    ],
    ids=["token", "admin token", "too many proxies", "any proxies", "no proxies", "site"],
)
def test_a_wrong_setting_has_the_right_advice(
    environment: dict[str, str], failing: str, words: str, tmp_path: Path
) -> None:
    with (
        running_with_store(tmp_path, **INSTALLATION | environment) as (service, _),
        Blog(tmp_path, service.port) as blog,
    ):
        advice = run_doctor(service, blog.url)

    assert words in (advice[failing] or "")


def test_a_broken_link_has_the_right_advice(tmp_path: Path) -> None:
    with running_with_store(tmp_path, **INSTALLATION) as (service, store), Blog(tmp_path, service.port) as blog:
        script = blog.script
        for tag in ("", '<script src="/other.js"></script>', blog.tag("")):
            blog.script = tag
            assert "has no ghost-stats.js: set tinybird__tracker" in (
                run_doctor(service, blog.url)["script ghost-stats.js"] or ""
            )
        for host in ("https://api.tinybird.co/v0/events", f"{store.url}/api/v1/page_hit"):
            blog.script = blog.tag(host)
            assert run_doctor(service, blog.url)["address of hits"] == (
                f"is not this service: set tinybird__tracker__endpoint to {blog.url}/.ghost/analytics/api/v1/page_hit"
                " in Ghost and restart it"
            )
        blog.script = script
        store.kill()
        advice = run_doctor(service, blog.url)
        assert "cannot be reached (ConnectionError): are host, port and network right?" in (advice["Tinybird at"] or "")
        service.terminate()
        advice = run_doctor(service, blog.url)
        assert "does not answer" in (advice["service at"] or "")
        assert "the proxy gets no answer: is the service running" in (advice["address of hits"] or "")
        assert "cannot be reached" in (run_doctor(service, "http://127.0.0.1:9")["page"] or "")
        store.start()
        service.start()


def test_a_prefix_that_the_proxy_does_not_pass_has_the_right_advice(tmp_path: Path) -> None:
    with (
        running_with_store(tmp_path, **INSTALLATION) as (service, _),
        Blog(tmp_path, service.port, prefix="/another-prefix") as blog,
    ):
        advice = run_doctor(service, blog.url)

    assert advice["address of hits"] == (
        f"another program answers: let the proxy pass /.ghost/analytics/ to this service on port {service.port}"
    )
