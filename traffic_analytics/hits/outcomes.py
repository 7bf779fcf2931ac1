"""Name the outcome of each hit, and the rule that decided it, as metrics and `stats` count them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, get_args

import msgspec

from traffic_analytics import errors
from traffic_analytics.hits.page_hit import Body

if TYPE_CHECKING:
    from collections.abc import Iterator


class Counted(NamedTuple):
    """Outcome and rule under which a hit counts; the rule is empty if the outcome has only one."""

    outcome: str
    rule: str = ""


ACCEPTED = Counted("accepted")
BOT = Counted("bot")
IGNORED_ADDRESS = Counted("ignored", "address")
IGNORED_PATH = Counted("ignored", "path")
SPAM = Counted("spam")
DEFECT = Counted("failed", "defect")
OTHER = "other"
"""Rule of a hit that is invalid in an unknown part."""


class OnOutcome(Protocol):
    """Callback for the outcome of each hit, called once."""

    def __call__(
        self, outcome: str, data_source: str = "", error: Exception | None = None, *, rule: str = "", site: str = ""
    ) -> None:
        """Receive `delivered` or `spooled` with the event's data source, a `Counted`, or `failed` with the error.

        `site` is the header as sent: of a refused hit it may be any text.
        """


def ignore_outcome(*_outcome: object, **_details: object) -> None:
    """Do nothing: the default."""


def _body_places(struct_type: type[msgspec.Struct], place: str) -> Iterator[str]:
    yield place
    for field in msgspec.structs.fields(struct_type):
        if msgspec.Raw in get_args(field.type):  # any JSON is valid
            continue
        inner = f"{place}.{field.encode_name}"
        yield inner
        for each in (field.type, *get_args(field.type)):
            if isinstance(each, type) and issubclass(each, msgspec.Struct):
                yield from _body_places(each, inner)


PLACES = frozenset(
    {
        "headers.content-length",
        "headers.x-site-uuid",
        "headers.user-agent",
        "query.name",
        "query.token",
        *_body_places(Body, "body"),
    }
)
"""Parts of a hit that can be invalid."""

ERRORS: dict[type[errors.AnalyticsError], Counted] = {
    errors.UnsignedUrl: Counted("unsigned"),
    errors.BodyTooLarge: Counted("refused", "too_large"),
    errors.UnsupportedMediaType: Counted("refused", "media_type"),
    errors.SiteNotAllowed: Counted("refused", "site"),
    errors.TooManyNewSites: Counted("refused", "new_site"),
    errors.SaltUnavailable: Counted("unavailable", "salt"),
    errors.SpoolUnavailable: Counted("unavailable", "spool"),
    errors.UpstreamFailed: Counted("failed", "upstream"),
}
"""Outcome and rule of each error. Any other error is a defect."""

ALL = (
    ACCEPTED,
    BOT,
    IGNORED_ADDRESS,
    IGNORED_PATH,
    SPAM,
    *(Counted("invalid", place) for place in (*sorted(PLACES), OTHER)),
    *ERRORS.values(),
    DEFECT,
)
"""Everything that a hit can count as."""


def counted_as(outcome: str, error: Exception | None, rule: str) -> Counted:
    """Return what a hit counts as, by the arguments of an `OnOutcome`. A spooled event counts as accepted."""
    if error is None:
        return ACCEPTED if outcome in {"delivered", "spooled"} else Counted(outcome, rule)
    if isinstance(error, errors.InvalidHit):
        return Counted("invalid", error.place if error.place in PLACES else OTHER)
    return ERRORS.get(type(error), DEFECT)  # type: ignore[arg-type] # a key that is not there
