"""What a client says may become of its question: whether it is kept, learned from, and looked up in documents."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nacre.records.feedback import Consent
from nacre.serve.gateway.errors import invalid
from nacre.serve.settings import Privacy

NO_STORE, CONSENT, KNOWLEDGE = "x-nacre-no-store", "x-nacre-consent", "x-nacre-knowledge"


@dataclass(frozen=True)
class Wishes:
    """What one request wishes.

    Attributes:
        keep: whether question and answer may be kept.
        consent: whether what is kept may be learned from.
        knowledge: whether the answer may be given passages of the documents.
    """

    keep: bool = True
    consent: Consent = "assumed"
    knowledge: bool = True


def wishes(headers: Iterable[tuple[str, Any]], privacy: Privacy) -> Wishes:
    """What a request's headers (or gRPC metadata) say.

    Raises:
        ApiError: 400, ``x-nacre-consent`` or ``x-nacre-knowledge`` says neither yes nor no, or both.
    """
    keep = True
    said: dict[str, set[str]] = {}
    for name, value in headers:
        if name == NO_STORE:
            keep = False
        elif name in (CONSENT, KNOWLEDGE):
            said.setdefault(name, set()).add(str(value).strip().lower())
    for name, words in said.items():
        if words not in ({"yes"}, {"no"}):
            raise invalid(f"the header {name} is 'yes' or 'no'", code="invalid_value")
    knowledge = said.get(KNOWLEDGE) != {"no"}
    if CONSENT not in said:
        return Wishes(keep, "assumed" if privacy.consent == "assumed" else "refused", knowledge)
    return Wishes(keep, "given" if said[CONSENT] == {"yes"} else "refused", knowledge)
