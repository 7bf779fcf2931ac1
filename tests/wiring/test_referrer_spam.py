"""Renew the list of referrer spam from a copy of Matomo's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from development import referrer_spam
from tests.support.processes import ROOT
from traffic_analytics.hits.referrer_spam import listed_hosts

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = [f"spam{n}.example" for n in range(referrer_spam.FEWEST)]


def test_a_copy_becomes_the_data_file_with_source_licence_and_date(tmp_path: Path) -> None:
    target = tmp_path / "referrer_spam.txt"
    text = "\n".join(["# comment", "", "MÜNCHEN.example", *reversed(HOSTS), HOSTS[0]])

    assert referrer_spam.renew(text, "2026-11-27", target) == len(HOSTS) + 1

    lines = target.read_text().splitlines()
    assert lines[1].endswith(referrer_spam.SOURCE)
    assert "# Date of the list: 2026-11-27" in lines
    hosts = [line for line in lines if not line.startswith("#")]
    assert hosts == sorted([*HOSTS, "xn--mnchen-3ya.example"])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("\n".join(HOSTS[1:]), "the list has only 199 hosts"),
        ("<html>\n" + "\n".join(HOSTS), "line 1: must be a host"),
        ("", "only 0 hosts"),
    ],
)
def test_any_other_text_leaves_the_file_as_it_is(text: str, rule: str, tmp_path: Path) -> None:
    target = tmp_path / "referrer_spam.txt"

    with pytest.raises(ValueError, match=rule):
        referrer_spam.renew(text, "2026-11-27", target)

    assert not target.exists()


def test_the_data_file_is_as_this_program_writes_it(tmp_path: Path) -> None:
    present = (ROOT / "traffic_analytics" / "data" / "referrer_spam.txt").read_text()
    date = present.partition("# Date of the list: ")[2][:10]

    referrer_spam.renew("\n".join(listed_hosts()), date, tmp_path / "again.txt")

    assert (tmp_path / "again.txt").read_text() == present
