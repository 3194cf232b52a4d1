"""What a client says may become of its question: whether it is kept, and whether it may be learned from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nacre.records.feedback import Consent
from nacre.serve.gateway.errors import invalid
from nacre.serve.settings import Privacy

NO_STORE, CONSENT = "x-nacre-no-store", "x-nacre-consent"


@dataclass(frozen=True)
class Wishes:
    """What one request wishes.

    Attributes:
        keep: whether question and answer may be kept.
        consent: whether what is kept may be learned from.
    """

    keep: bool = True
    consent: Consent = "assumed"


def wishes(headers: Iterable[tuple[str, Any]], privacy: Privacy) -> Wishes:
    """What a request's headers (or gRPC metadata) say.

    Raises:
        ApiError: 400, ``x-nacre-consent`` says neither yes nor no, or both.
    """
    keep, said = True, set[str]()
    for name, value in headers:
        if name == NO_STORE:
            keep = False
        elif name == CONSENT:
            said.add(str(value).strip().lower())
    if not said:
        return Wishes(keep, "assumed" if privacy.consent == "assumed" else "refused")
    if said not in ({"yes"}, {"no"}):
        raise invalid(f"the header {CONSENT} is 'yes' or 'no'", code="invalid_value")
    return Wishes(keep, "given" if said == {"yes"} else "refused")
