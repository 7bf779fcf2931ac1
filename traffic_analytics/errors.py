"""Everything that can go wrong has a name here; hit_endpoint.py alone knows which status each one is."""

from __future__ import annotations


class AnalyticsError(Exception):
    """The root of what this service raises on purpose."""


class RefusedHit(AnalyticsError):
    """The request is not a hit that we accept; the message may be shown to whoever sent it."""


class InvalidHit(RefusedHit):
    """A part of the request breaks the contract.

    `place` names the part (`body.payload.pathname`), `rule` what it must be. Neither repeats what was sent.
    """

    def __init__(self, place: str, rule: str) -> None:
        super().__init__(f"{place}: {rule}")
        self.place = place
        self.rule = rule


class UnsupportedMediaType(RefusedHit):
    """The body claims to be something other than JSON as we take it."""


class BodyTooLarge(RefusedHit):
    """The body is longer than what is taken."""


class UnsignedUrl(RefusedHit):
    """The URL is not signed by the shared secret, or was not signed recently."""


class SaltUnavailable(AnalyticsError):
    """No salt can be had, so the visitor cannot be named without naming them wrongly.

    `store_answered` tells a store that answers, but with something that is no salt, from one that cannot be used.
    """

    def __init__(self, message: str, *, store_answered: bool = False) -> None:
        super().__init__(message)
        self.store_answered = store_answered


class SpoolUnavailable(AnalyticsError):
    """The spool is full or cannot be written, so nothing can be promised."""


class NotSubscribed(AnalyticsError):
    """No messages can come, so this worker delivers nothing; the message names why."""


class UpstreamFailed(AnalyticsError):
    """Tinybird did not take the event and there is no spool; the message names why, without client data."""


class NoEvent(AnalyticsError):
    """A Pub/Sub message brings nothing that could be delivered; the reason quotes nothing of it."""


class InvalidQuery(AnalyticsError):
    """The question is not one that any pipe could answer."""


class UnknownPipe(AnalyticsError):
    """The path names no pipe."""


class TokenRefused(AnalyticsError):
    """The token does not let its bearer see what is asked for."""


class TargetIsOurselves(AnalyticsError):
    """The question was sent by this service: what it takes for the statistics' source leads back to it."""


class KeyRefused(AnalyticsError):
    """The request brings no key, or not the one that lets rows be sent."""


class InvalidRows(AnalyticsError):
    """The rows of a sync break the contract; the message names the line and the rule, and repeats nothing of it."""


class SyncDelayed(AnalyticsError):
    """Rows cannot be taken now, and can be in `retry_after` seconds; the message may be shown to whoever sent them."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SyncFailed(AnalyticsError):
    """Tinybird does not take the rows, and will not until somebody acts; the message may be shown to their sender."""


class DamagedFile(AnalyticsError):
    """A file of ours is not what it should be; only a person may replace it."""


class ConfigurationError(AnalyticsError):
    """The settings hold mistakes, all of which are listed."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(f"  - {mistake}" for mistake in mistakes))
        self.mistakes = mistakes
