"""List the columns of hits and sessions, and the limits of their texts.

Texts is the only list of the payload's fields in the store. The table `hits` has their columns in this order.
"""

from typing import Annotated

import msgspec

ID_CHARACTERS = 200
"""Longest identifier, in characters: a row with a longer one is quarantined."""
TEXT_CHARACTERS = 512
"""Longest text of a column without an entry in LIMITS, in characters: longer ones are cut."""
LIMITS = {"pathname": 2_048, "href": 2_048, "user-agent": 1_024}
"""Longest text of a field, in characters: longer ones are cut."""

Identifier = Annotated[str, msgspec.Meta(max_length=ID_CHARACTERS)]
Text = Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS)]


class Texts(msgspec.Struct, gc=False, rename={"user_agent": "user-agent"}):
    """Texts of a hit's payload, each with its column of `hits`, which is empty for None."""

    member_uuid: Identifier | None = None
    member_status: Text | None = None
    post_uuid: Identifier | None = None
    post_type: Text | None = None
    gift_link: Text | None = None
    locale: Text | None = None
    location: Text | None = None
    pathname: Annotated[str, msgspec.Meta(max_length=LIMITS["pathname"])] | None = None
    href: Annotated[str, msgspec.Meta(max_length=LIMITS["href"])] | None = None
    device: Text | None = None
    os: Text | None = None
    browser: Text | None = None
    user_agent: Annotated[str, msgspec.Meta(max_length=LIMITS["user-agent"])] | None = None
    utm_source: Text | None = None
    utm_medium: Text | None = None
    utm_campaign: Text | None = None
    utm_term: Text | None = None
    utm_content: Text | None = None


TEXTS = {field.encode_name: field.name for field in msgspec.structs.fields(Texts)}
"""Text fields of a hit's payload, each with its column of `hits`."""

OTHER_BYTES = 8_192
"""Longest JSON of the payload's fields without a column, in bytes, and of those in its `meta`."""
OTHER_CHARACTERS = 1_024
"""Length to which texts are cut if that JSON is longer, in characters."""

ENTRY = ("source", "device", *(column for column in TEXTS.values() if column.startswith("utm_")))
"""Columns of `sessions` that hold a value of the session's first hit."""

FACTS = ("location", "os", "browser")
"""Columns of `sessions` that hold a value if all hits of the session have it, and are null otherwise."""

STATUSES = {"undefined": 1, "free": 2, "paid": 4, "comped": 8, "gift": 16, "": 32}
"""Bits of the column `statuses` of `sessions`, one for each member_status among the session's hits."""
OTHER_STATUS = 64
"""Bit of all other values of member_status."""

HIT_FILTERS = ("location", "pathname", "post_uuid", "os", "browser")
"""Columns of `hits` by which a query may filter with a single value."""
