"""Define the errors of the service; `wsgi.STATUS` maps those of requests to HTTP statuses."""

from __future__ import annotations


class AnalyticsError(Exception):
    """Base class of all errors that this service raises on purpose."""


class RefusedHit(AnalyticsError):
    """The request is no acceptable hit; the message may be shown to the client."""


class InvalidHit(RefusedHit):
    """A part of the request breaks the contract.

    `place` names the part (`body.payload.pathname`), `rule` its requirement. Neither quotes the client's data.
    """

    def __init__(self, place: str, rule: str) -> None:
        super().__init__(f"{place}: {rule}")
        self.place = place
        self.rule = rule


class UnsupportedMediaType(RefusedHit):
    """The headers announce a body in a format that is not accepted."""


class BodyTooLarge(RefusedHit):
    """The body is longer than the limit."""


class SiteNotAllowed(RefusedHit):
    """The hit is of a site that ALLOWED_SITES does not list."""


class UnsignedUrl(RefusedHit):
    """The URL is not signed with the shared secret, or its signature has expired."""


class SaltUnavailable(AnalyticsError):
    """The store returned no salt, so the session id of the visitor cannot be derived.

    `store_answered` is True if the store can be used but returned an invalid salt.
    """

    def __init__(self, message: str, *, store_answered: bool = False) -> None:
        super().__init__(message)
        self.store_answered = store_answered


class TooManyNewSites(SaltUnavailable):
    """The site has no salt today, and no more are created before `retry_after` seconds have passed."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, store_answered=True)
        self.retry_after = retry_after


class SpoolUnavailable(AnalyticsError):
    """The spool is full or cannot be written, so no event can be accepted."""


class NotSubscribed(AnalyticsError):
    """No messages can arrive, so this worker delivers nothing; the message names the reason."""


class UpstreamFailed(AnalyticsError):
    """Tinybird did not accept the event and there is no spool; the message names the reason, without client data."""


class NoEvent(AnalyticsError):
    """A Pub/Sub message holds no event and no hit; the reason quotes nothing of it."""


class InvalidQuery(AnalyticsError):
    """The query is not valid for any pipe."""


class UnknownPipe(AnalyticsError):
    """The path names no pipe."""


class TokenRefused(AnalyticsError):
    """The token does not grant access to the queried pipe."""


class TargetIsOurselves(AnalyticsError):
    """The query was sent by this service itself: the target of the statistics leads back to it."""


class KeyRefused(AnalyticsError):
    """The request lacks the key for syncs."""


class InvalidRows(AnalyticsError):
    """The rows of a sync break the contract.

    `place` names the line and field (`line 3.payload.created_at`), `rule` its requirement. Neither quotes the rows.
    """

    def __init__(self, place: str, rule: str) -> None:
        super().__init__(f"{place}: {rule}")
        self.place = place
        self.rule = rule


class SyncDelayed(AnalyticsError):
    """Rows can be accepted in `retry_after` seconds, but not now; the message may be shown to the client."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SyncFailed(AnalyticsError):
    """Tinybird will not accept the rows until the operator acts; the message may be shown to the client."""


class DamagedFile(AnalyticsError):
    """A data file is damaged or of a foreign format; only the operator may replace it."""


class ForeignFile(DamagedFile):
    """A data file is the database of another program."""


class ConfigurationError(AnalyticsError):
    """The settings hold mistakes; the message lists all of them."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(f"  - {mistake}" for mistake in mistakes))
        self.mistakes = mistakes
