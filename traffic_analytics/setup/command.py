"""Ask for an installation's answers and write what it needs: `traffic-analytics setup`."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import secrets
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traffic_analytics.errors import ConfigurationError
from traffic_analytics.runtime.env_file import read_env_file
from traffic_analytics.runtime.env_values import http_url, one_of, read_environment, set_variables
from traffic_analytics.settings import Settings
from traffic_analytics.setup import env_file
from traffic_analytics.setup.next_steps import next_steps
from traffic_analytics.setup.plan import (
    DOCKER,
    GHOST_DOCKER,
    PROCFILE,
    SECRETS,
    SELF_HOSTED,
    STORE,
    SYSTEMD,
    TINYBIRD,
    Plan,
    blog_origin,
    environment_form,
    unit_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SERVICE_USER = "traffic-analytics"
_PORT = click.IntRange(1, 65_535)


@click.command()
@click.option("--blog", help="Address of the blog, such as https://blog.example.")
@click.option("--target", type=click.Choice([STORE, TINYBIRD]), help="Where hits go: the embedded store or Tinybird.")
@click.option(
    "--runs", type=click.Choice([GHOST_DOCKER, DOCKER, SYSTEMD, PROCFILE]), help="How the service is started."
)
@click.option("--directory", default=".", type=Path, help="Where the files are written; by default here.")
@click.option("--data-dir", help="Where data lives; by default in `data` beside the files. Docker has volumes.")
@click.option("--user", help="User of the systemd units; by default the one that runs this command.")
@click.option("--port", type=_PORT, help="Port of the service; by default 3000.")
@click.option("--store-port", type=_PORT, help="Port of the store; by default 7181.")
@click.option("--proxies", type=click.IntRange(0, 99), help="Number of proxies in front of the service; by default 1.")
@click.option("--tinybird-url", help="Tinybird's API; by default https://api.tinybird.co.")
@click.option("--workspace", help="ID of the workspace in Tinybird.")
@click.option("--add", is_flag=True, help="Add what an existing .env lacks, without asking.")
@click.option("--yes", is_flag=True, help="Ask nothing: use the defaults, and end if one is missing.")
@click.option("--show-secrets", is_flag=True, help="Print Ghost's configuration with its token.")
def setup(directory: Path, *, add: bool, yes: bool, show_secrets: bool, **options: Any) -> None:
    """Write .env with new secrets, and what starts the service; print Ghost's configuration.

    Files that exist are never changed: what differs is named and left. Tinybird's tokens are read from
    TINYBIRD_TRACKER_TOKEN and TINYBIRD_ADMIN_TOKEN, in the environment or in .env.
    """
    file = directory.absolute() / ".env"
    in_file, mistakes = read_env_file(file)
    if mistakes:
        raise click.ClickException("\n".join([*mistakes, "Correct this first. Nothing was written."]))
    given, recorded = set_variables(in_file), env_file.recorded_options(file)
    chosen = {name.replace("_", "-"): str(value) for name, value in options.items() if value is not None}
    known = recorded | chosen
    answers = _Answers(known, may_ask=not yes)
    plan = _plan(answers, directory, given)
    environment = read_environment()
    tokens = {name: environment[name] for name in SECRETS if environment.get(name)} | given
    if plan.target == TINYBIRD:
        for name in SECRETS:
            tokens[name] = tokens.get(name) or answers.ask_secret(name)
    variables = plan.variables(tokens, new_secret=lambda: secrets.token_hex(32))
    missing = {name: text for name, text in variables.items() if name not in given}
    if missing and file.exists() and not add:
        question = f"{file} lacks {', '.join(missing)}. Add them at its end?"
        if yes or not click.confirm(question, default=False):
            raise click.ClickException(f"{file} lacks {', '.join(missing)}: add them with --add. Nothing was written.")
    try:
        _write(plan, file, missing, known)
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}") from None
    _report_left(file, given, variables)
    if plan.runs in (SYSTEMD, PROCFILE):
        _report_mistakes(variables | given)
    for number, step in enumerate(next_steps(plan, given), 1):
        click.echo(f"\n{number}. {step}")
    _show_ghost(plan, (variables | given)["TINYBIRD_ADMIN_TOKEN"] if show_secrets else None)


class _Answers:
    """Answers that are known, and questions for the others."""

    def __init__(self, known: dict[str, str], *, may_ask: bool) -> None:
        self.known = known
        self._may_ask = may_ask

    def ask(self, name: str, question: str, read: Callable[[str], Any], default: str | None = None) -> Any:
        """Return the answer for an option; it is recorded for the next setup."""
        text = self.known.get(name)
        if text is None and not self._may_ask:
            text = default
        if text is None and not self._may_ask:
            raise click.UsageError(f"--{name} must be given")
        if text is None:
            text = click.prompt(question, default=default)
        try:
            value = read(text)
        except ValueError as error:
            raise click.UsageError(f"--{name}: {error}") from None
        self.known[name] = str(value)
        return value

    def ask_secret(self, name: str) -> str:
        """Return a token that is typed unseen."""
        if not self._may_ask:
            raise click.UsageError(f"{name} must be set, in the environment or in .env")
        return str(click.prompt(f"{name} (not shown)", hide_input=True))


def _plan(answers: _Answers, directory: Path, given: Mapping[str, str]) -> Plan:
    domain = given.get("DOMAIN")
    blog = answers.ask("blog", "Address of the blog", blog_origin, f"https://{domain}" if domain else None)
    choices = f"{STORE} (on this machine) or {TINYBIRD}"
    target = answers.ask("target", f"Where hits go: {choices}", one_of(STORE, TINYBIRD), STORE)
    kinds = (GHOST_DOCKER, DOCKER, SYSTEMD, PROCFILE)
    runs = answers.ask("runs", f"How the service is started: {', '.join(kinds)}", one_of(*kinds))
    place = _read("--directory", unit_path, str(directory))
    has_volumes = runs in (GHOST_DOCKER, DOCKER)
    if has_volumes and "data-dir" in answers.known:
        raise click.UsageError("--data-dir: with Docker, data lives in volumes")
    data_dir = None
    if runs == SYSTEMD or "data-dir" in answers.known:
        data_dir = answers.ask("data-dir", "Where data lives", unit_path, str(place / "data"))
    user = answers.known.get("user", "")
    if runs == SYSTEMD:  # in a container, the user may have no name
        user = user or (getpass.getuser() if os.geteuid() else _SERVICE_USER)
        _require_user(user)
    workspace, url = SELF_HOSTED, ""
    if target == TINYBIRD:
        url = answers.ask("tinybird-url", "Tinybird's API", http_url, "https://api.tinybird.co")
        workspace = answers.ask("workspace", "ID of the workspace", str, given.get("TINYBIRD_WORKSPACE_ID"))
    commands = Path(sys.executable).parent
    if runs == SYSTEMD and not (commands / "traffic-analytics").exists():
        raise click.ClickException(f"systemd starts the installed package: {sys.executable} -m pip install --no-deps .")
    return Plan(
        blog=blog,
        target=target,
        runs=runs,
        directory=place,
        data_dir=data_dir,
        commands=_read("the environment", unit_path, str(commands)) if runs == SYSTEMD else commands,
        user=user,
        port=int(answers.known.get("port", 3000)),
        store_port=int(answers.known.get("store-port", 7181)),
        proxies=int(answers.known.get("proxies", 1)),
        tinybird=url,
        workspace=workspace,
    )


def _read(name: str, read: Callable[[str], Path], text: str) -> Path:
    try:
        return read(text)
    except ValueError as error:
        raise click.UsageError(f"{name}: {error}") from None


def _write(plan: Plan, file: Path, missing: Mapping[str, str], options: Mapping[str, str]) -> None:
    """Write what does not exist yet, and say of each file what became of it."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    if missing:
        outcome = "completed" if file.exists() else "written"
        env_file.add(file, missing, options)
        _give_to_user(file, plan)
        click.echo(f"{outcome:<10} {file}: {', '.join(missing)}")
    else:
        click.echo(f"unchanged  {file}")
    if plan.data_dir is not None and not plan.data_dir.exists():
        plan.data_dir.mkdir(mode=0o700, parents=True)
        _give_to_user(plan.data_dir, plan)
        click.echo(f"{'written':<10} {plan.data_dir}")
    for name, content in plan.files().items():
        path = plan.directory / name
        if not path.exists():
            path.write_text(content, encoding="utf-8")
            click.echo(f"{'written':<10} {path}")
        elif path.read_text(encoding="utf-8") == content:
            click.echo(f"unchanged  {path}")
        else:
            click.echo(f"{'left':<10} {path}: it differs from what setup writes. Remove it if you want that.")


def _give_to_user(path: Path, plan: Plan) -> None:
    """Let the user of the units own what root has made."""
    if plan.runs == SYSTEMD and os.geteuid() == 0:
        shutil.chown(path, plan.user)


def _require_user(user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        advice = f"create it with sudo adduser --system --group {user}, or give --user"
        raise click.ClickException(f"there is no user {user}: {advice}") from None


def _report_left(file: Path, given: Mapping[str, str], variables: Mapping[str, str]) -> None:
    for name, text in variables.items():
        if given.get(name, text) != text:
            click.echo(f"{'left':<10} {file}: {name} is not {text}")
    if file.stat().st_mode & 0o077:
        click.echo(f"{'left':<10} {file}: other users can read it: chmod 600 {file}")


def _report_mistakes(environment: dict[str, str]) -> None:
    try:
        Settings.from_env(environment)
    except ConfigurationError as error:
        raise click.ClickException(f"the service cannot start with these settings:\n{error}") from None


def _show_ghost(plan: Plan, token: str | None) -> None:
    if plan.runs == GHOST_DOCKER:
        click.echo("\nGhost's configuration is in compose.override.yml and .env.")
        return
    shown = plan.ghost_configuration(token or f"<TINYBIRD_ADMIN_TOKEN of {plan.directory}/.env>")
    click.echo("\nGhost's configuration, in config.production.json beside its other sections:\n")
    click.echo(json.dumps(shown, indent=2)[2:-2])
    click.echo("\nor as Ghost's environment:\n")
    for name, value in environment_form(shown).items():
        click.echo(f"{name}={value}")
    if token is None:
        click.echo(
            f"\nWith the token, to copy it: the same command with --yes --show-secrets --directory {plan.directory}"
        )
