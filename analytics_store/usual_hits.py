"""Decode hits as the service sends them and an export writes them: no unknown field, and no text over its limit."""

from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from analytics_store.columns import Identifier, Texts

RequiredIdentifier = Annotated[Identifier, msgspec.Meta(min_length=1)]


class Meta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """`meta` of a payload."""

    received_timestamp: str | None = None


class Payload(Texts, gc=False, forbid_unknown_fields=True, kw_only=True):
    """The payload; the fields of the referrer have no column."""

    site_uuid: RequiredIdentifier
    event_id: str | None = None
    meta: Meta | None = None
    parsedReferrer: dict[str, str | None] | msgspec.UnsetType = msgspec.UNSET  # noqa: N815 - names of the service
    referrerUrl: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815
    referrerSource: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815
    referrerMedium: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815


class UsualHit(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An event; a payload that is a text is JSON."""

    timestamp: str
    action: Literal["page_hit"]
    session_id: RequiredIdentifier
    payload: Payload | str
    version: Identifier | None = None
    site_uuid: str | None = None
    inserted_at: str | None = None


decode = msgspec.json.Decoder(UsualHit).decode
decode_payload = msgspec.json.Decoder(Payload).decode

_WITHOUT_COLUMN = ("parsedReferrer", "referrerUrl", "referrerSource", "referrerMedium")
_Rest = msgspec.defstruct("_Rest", [(name, Any, msgspec.UNSET) for name in _WITHOUT_COLUMN], gc=False)
_values = attrgetter(*_WITHOUT_COLUMN)


def rest(payload: Payload) -> msgspec.Struct:
    """Return the fields of a payload without a column."""
    return _Rest(*_values(payload))
