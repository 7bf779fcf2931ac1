"""List the operator's next steps after setup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traffic_analytics.setup.plan import DOCKER, GHOST_DOCKER, PROCFILE, STORE, SYSTEMD, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def next_steps(plan: Plan, given: Mapping[str, str]) -> Iterator[str]:
    """Yield what the operator does next; `given` are the variables that .env had before."""
    has_store = plan.target == STORE
    if plan.runs == GHOST_DOCKER:
        if has_store and "analytics" in given.get("COMPOSE_PROFILES", "").split(","):
            yield "Remove analytics from COMPOSE_PROFILES in .env: it starts Tinybird's command line."
        yield "Start it:\n   docker compose up --detach"
    elif plan.runs == DOCKER:
        yield "Start it, in a clone that holds this .env:\n   docker compose up --detach --build"
    elif plan.runs == SYSTEMD:
        units = ["traffic-analytics-store", "traffic-analytics"] if has_store else ["traffic-analytics"]
        copied = " ".join(f"{plan.directory}/{unit}.service" for unit in units)
        yield (
            f"Start it:\n   sudo cp {copied} /etc/systemd/system/\n"
            f"   sudo systemctl daemon-reload\n   sudo systemctl enable --now {' '.join(units)}"
        )
    elif plan.runs == PROCFILE:
        yield f"Start it, beside the Procfile:\n   PORT={plan.port} honcho start"
    if plan.runs != GHOST_DOCKER:
        yield (
            f"Pass {plan.blog}/.ghost/analytics/ to it. nginx:\n"
            f"   sudo cp {plan.directory}/traffic-analytics.nginx.conf /etc/nginx/snippets/traffic-analytics.conf\n"
            "   and in the blog's server blocks: include /etc/nginx/snippets/traffic-analytics.conf;\n"
            f"   Caddy: the lines of {plan.directory}/traffic-analytics.caddy"
        )
        yield "Put the section below into Ghost's configuration, and restart Ghost."
