"""What can go wrong in the store, by name; only web.py knows what HTTP calls it."""


class StoreError(Exception):
    """Something this store refuses or cannot do; the text is fit for whoever asked."""


class SettingsError(StoreError):
    """The environment holds mistakes, all of them listed."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class RequestError(StoreError):
    """The request itself is malformed and would be refused for ever."""


class ParameterError(RequestError):
    """A parameter of a pipe is missing or cannot be read."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"parameter {name}: {rule}")
        self.name = name


class DataSourceError(RequestError):
    """Events were posted under a name that the store does not keep."""


class ForbiddenError(StoreError):
    """The token is missing, wrong, expired, or does not grant this."""


class UnknownPipeError(StoreError):
    """No statistics endpoint has this name."""


class TooLargeError(StoreError):
    """The body, or what it unpacks to, is over the limit: the sender should split it."""


class OverMemoryError(StoreError):
    """The question needs more memory than STORE_MEMORY_MB; a shorter range may do."""


class UnavailableError(StoreError):
    """The database cannot be used now; nothing of the request was kept."""
