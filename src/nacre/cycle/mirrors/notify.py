"""Webhooks: each event as a signed JSON object to an address of nacre.yaml.

The body is the event as the history has it (``id``, ``time``, ``actor``, ``kind``, ``detail``, ``previous``) with its
``hash``. With a secret the header ``X-Nacre-Signature: sha256=…`` carries the HMAC-SHA256 (RFC 2104) over
``<X-Nacre-Timestamp>.<body>``, in hex; the timestamp (seconds since 1970) lets a receiver refuse what is old. An event
may come twice: its ``id`` tells.
Addresses come from nacre.yaml alone, never from a request or an event; redirects are not followed, and of an answer
nothing but its status is read.
"""

import hashlib
import hmac
import http.client
import time
import urllib.error
import urllib.request
from fnmatch import fnmatchcase
from typing import Literal

from nacre import __version__
from nacre.base.hashing import canonical_json
from nacre.base.redirects import NoRedirect
from nacre.cycle.mirrors.receiver import DeliveryError
from nacre.records import Event
from nacre.records.mirror import Webhook

TIMEOUT_S = 10.0
SIGNATURE, TIMESTAMP = "X-Nacre-Signature", "X-Nacre-Timestamp"
_ABOUT_THE_EVENT = frozenset({400, 409, 413, 415, 422})  # other refusals say that the address is wrong, or closed


class WebhookReceiver:
    """Sends events to one address."""

    from_start = follows_slots = False

    def __init__(self, settings: Webhook) -> None:
        self._settings = settings
        self._opener = urllib.request.build_opener(NoRedirect)
        self.name, self.shown = settings.name, f"webhook {settings.shown}"

    def wants(self, event: Event) -> bool:
        """Whether its kind is among those that were asked for."""
        return any(fnmatchcase(event.kind, pattern) for pattern in self._settings.events)

    def deliver(self, event: Event, *, superseded: bool) -> None:
        """POST it. Raises as `Receiver.deliver`."""
        body = canonical_json({**event.model_dump(mode="json"), "hash": event.hash}).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"nacre/{__version__}",
            "X-Nacre-Event": event.kind,
            "X-Nacre-Delivery": str(event.id),
            TIMESTAMP: str(int(time.time())),
        }
        key = self._settings.key
        if key == "":
            fix = f"set it where nacre runs: {self._settings.secret}"
            raise DeliveryError("failed", "the variable that holds the webhook's secret is empty", fix=fix)
        if key:
            headers[SIGNATURE] = sign(key, headers[TIMESTAMP], body)
        request = urllib.request.Request(self._settings.url, body, headers, method="POST")
        try:
            self._opener.open(request, timeout=TIMEOUT_S).close()
        except urllib.error.HTTPError as error:
            with error:
                raise self._answered(error.code) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DeliveryError("unreachable", f"{self.shown} does not answer: {_reason(error)}") from None

    def _answered(self, status: int) -> DeliveryError:
        """What an answer other than 2xx means."""
        fault: Literal["failed", "refused"] = "refused" if status in _ABOUT_THE_EVENT else "failed"
        redirect = "; redirects are not followed: name the final address" if 300 <= status < 400 else ""
        return DeliveryError(fault, f"{self.shown} answered {status}{redirect}")


def _reason(error: Exception) -> str:
    """Why nobody answers. Only the system's own words are repeated: others quote the address, or the answer."""
    found = getattr(error, "reason", error)
    return str(found) if isinstance(found, OSError) and str(found) else type(found).__name__


def sign(key: str, timestamp: str, body: bytes) -> str:
    """The value of the header `X-Nacre-Signature`."""
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
