"""Name what the store refuses or cannot do; `web.py` maps each error to its HTTP status."""

from traffic_analytics.errors import AnalyticsError


class StoreError(AnalyticsError):
    """Root of the store's errors; the message may be sent to the client."""


class RequestError(StoreError):
    """The request is malformed and would be refused again."""


class ParameterError(RequestError):
    """A parameter of a pipe is missing or cannot be read."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"parameter {name}: {rule}")
        self.name = name


class DataSourceError(RequestError):
    """The store has no data source of this name."""


class ForbiddenError(StoreError):
    """The token is missing, wrong or expired, or does not grant the request."""


class UnknownPipeError(StoreError):
    """No pipe has this name."""


class TooLargeError(StoreError):
    """The body, unpacked, is over the limit; the client should split it."""


class OverMemoryError(StoreError):
    """The query needs more memory than STORE_MEMORY_MB; a shorter range may need less."""


class FullError(StoreError):
    """The store uses as much disk as STORE_MAX_MB allows; nothing of the request was stored, or a part of its rows."""


class RefusedRowsError(StoreError):
    """The engine cannot store one of the rows, and would refuse it again; nothing of the transaction was stored."""


class UnavailableError(StoreError):
    """The database cannot be used now; nothing of the request was stored."""
