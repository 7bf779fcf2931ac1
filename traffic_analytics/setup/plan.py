"""Derive variables, files and Ghost's configuration from the operator's answers."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STORE, TINYBIRD = "store", "tinybird"
GHOST_DOCKER, DOCKER, SYSTEMD, PROCFILE = "ghost-docker", "docker", "systemd", "procfile"
SECRETS = ("TINYBIRD_TRACKER_TOKEN", "TINYBIRD_ADMIN_TOKEN")
SELF_HOSTED = "self-hosted"
"""Workspace of an installation with the embedded store; Ghost needs some name."""

_PREFIX = "/.ghost/analytics"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Plan:
    """The operator's answers."""

    blog: str
    target: str
    runs: str
    directory: Path
    data_dir: Path | None
    commands: Path
    user: str
    port: int
    store_port: int
    proxies: int
    tinybird: str
    workspace: str

    @property
    def store_url(self) -> str:
        """URL of the embedded store for the service."""
        return f"http://127.0.0.1:{self.store_port}"

    def variables(self, given: Mapping[str, str], new_secret: Callable[[], str]) -> dict[str, str]:
        """Return the variables of `.env`; tokens that are given stay, those of the store are made otherwise.

        Tokens of Tinybird that are not given are left out.
        """
        with_store = self.target == STORE
        secrets = {name: given.get(name) or (new_secret() if with_store else "") for name in SECRETS}
        if self.runs == GHOST_DOCKER:
            # ghost-docker's compose.yml passes these on to both, and the override has the rest.
            return {"TINYBIRD_WORKSPACE_ID": self.workspace} | {name: text for name, text in secrets.items() if text}
        values: dict[str, str] = {}
        if self.runs != DOCKER or not with_store:  # compose.yaml has the store's address
            url = self.store_url if with_store else self.tinybird
            values |= {"PROXY_TARGET": url, "STATS_TARGET": url}
        values |= {name: text for name, text in secrets.items() if text}
        values["TRUST_PROXY"] = str(self.proxies)
        if self.runs in (SYSTEMD, DOCKER):
            values["PORT"] = str(self.port)
        if self.runs == SYSTEMD:
            values["LISTEN_HOST"] = "127.0.0.1"
        if self.runs in (SYSTEMD, PROCFILE) and with_store:
            values["STORE_BIND"] = f"127.0.0.1:{self.store_port}"
        if self.data_dir is not None:
            values["DATA_DIR"] = str(self.data_dir)
        return values

    def files(self) -> dict[str, str]:
        """Return the content of each file beside `.env`."""
        files: dict[str, str] = {}
        if self.runs == GHOST_DOCKER:
            return {"compose.override.yml": self._render(f"compose.override.{self.target}.yml")}
        if self.runs == SYSTEMD:
            files["traffic-analytics.service"] = self._render("traffic-analytics.service")
            if self.target == STORE:
                files["traffic-analytics-store.service"] = self._render("traffic-analytics-store.service")
        if self.runs == PROCFILE:
            files["Procfile"] = self._render(f"Procfile.{self.target}")
        files["traffic-analytics.nginx.conf"] = self._render("nginx.conf")
        files["traffic-analytics.caddy"] = self._render("caddy")
        return files

    def ghost_configuration(self, admin_token: str) -> dict[str, Any]:
        """Return the section that Ghost's config.production.json needs."""
        public = f"{self.blog}{_PREFIX}"
        return {
            "tinybird": {
                "workspaceId": self.workspace,
                "adminToken": admin_token,
                "tracker": {"endpoint": f"{public}/api/v1/page_hit"},
                "stats": {"endpoint": public},
            }
        }

    def _render(self, name: str) -> str:
        has_store = self.target == STORE
        return _Template((_TEMPLATES / name).read_text(encoding="utf-8")).substitute(
            commands=self.commands,
            data_dir=self.data_dir or "",
            directory=self.directory,
            port=self.port,
            store_unit=" traffic-analytics-store.service" if has_store else "",
            user=self.user,
            proxies=self.proxies,
        )


class _Template(string.Template):
    """A template whose placeholders are `@{name}`: nginx, Caddy, Compose and systemd use the others."""

    delimiter = "@"
    flags = re.NOFLAG
    idpattern = "(?!)"
    braceidpattern = "[a-z_]+"


def environment_form(section: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a section of Ghost's configuration as Ghost's environment variables."""
    variables: dict[str, str] = {}
    for name, value in section.items():
        if isinstance(value, dict):
            variables |= environment_form(value, f"{prefix}{name}__")
        else:
            variables[prefix + name] = str(value)
    return variables


def blog_origin(text: str) -> str:
    """Read the blog's URL and return its origin; raises ValueError with the rule that it breaks."""
    url = urlsplit(text if "://" in text else f"https://{text}")
    if url.scheme not in ("http", "https") or not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", url.netloc):
        raise ValueError("must be the blog's address, such as https://blog.example")
    return f"{url.scheme}://{url.netloc.lower()}"


def unit_path(text: str | Path) -> Path:
    """Read a directory that stands in units without quotes; raises ValueError with the rule that it breaks."""
    path = Path(text).absolute()
    if not re.fullmatch(r"[\w./+-]+", str(path)):
        raise ValueError("must be a path of letters, digits and . / + - _ only")
    return path
