"""Renew the list of hosts of referrer spam: `python -m development.referrer_spam [FILE] [DATE]`.

Without FILE, Matomo's list is downloaded. FILE is a copy of it, from DATE.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import requests

from traffic_analytics.runtime.list_files import read_host

SOURCE = "https://raw.githubusercontent.com/matomo-org/referrer-spam-list/master/spammers.txt"
TARGET = Path(__file__).parents[1] / "traffic_analytics" / "data" / "referrer_spam.txt"
FEWEST = 200
"""Hosts of the shortest list that replaces the present one; a shorter one is damaged."""
HEADER = """\
# Hosts of referrer spam, as browsers write them; their subdomains are included.
# Source: Matomo's referrer-spam-list, {source}
# Date of the list: {date}
# Licence: public domain, "Public Domain (no copyright)"
# `make referrer-spam` renews this file.
"""


def renew(text: str, date: str, target: Path = TARGET, source: str = SOURCE) -> int:
    """Write the hosts of a list to the data file, and return their number. Raises ValueError for any other text."""
    hosts = set()
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            hosts.add(read_host(entry))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if len(hosts) < FEWEST:
        raise ValueError(f"the list has only {len(hosts)} hosts")
    target.write_text(HEADER.format(source=source, date=date) + "\n".join(sorted(hosts)) + "\n", encoding="utf-8")
    return len(hosts)


def main(arguments: list[str]) -> str:
    """Renew the list; return what was done."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"  # noqa: TID251 - a command line is an edge
    if arguments:
        text, date = Path(arguments[0]).read_text(encoding="utf-8"), [*arguments[1:], today][0]
    else:
        answer = requests.get(SOURCE, timeout=30)
        answer.raise_for_status()
        text, date = answer.content.decode(), today
    return f"{renew(text, date)} hosts, list of {date}"


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1:]) + "\n")
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        sys.exit(f"The list was not renewed: {error}")
