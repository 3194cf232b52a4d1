"""Ids of requests and responses. A response id carries a signature, so that nobody rates what was never answered."""

import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from nacre.base.errors import InputError
from nacre.base.files import disk_errors

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RESPONSE_ID = re.compile(r"(?:chatcmpl|cmpl)-([0-9a-f]{24})-([0-9a-f]{32})")
SECRET = "NACRE_RESPONSE_SECRET"  # the environment variable with the secret of all servers of one ledger
SHORTEST = 32  # characters of it


class Signer:
    """Makes response ids and knows its own again (HMAC-SHA-256 over a random number, 128 bits kept).

    Args:
        secret: signs.
        former: a secret whose ids are known too; none are made with it any more.
    """

    def __init__(self, secret: bytes, former: bytes = b"") -> None:
        self._mac = hmac.new(secret, digestmod="sha256")
        self._former = hmac.new(former, digestmod="sha256") if former else None

    @classmethod
    def of_server(cls, path: Path, environ: Mapping[str, str] = os.environ) -> "Signer":
        """With the secret that the environment gives to every server of a ledger; without one, with that of `path`.

        Where both are there, ids that were made with that of `path` are still known.

        Raises:
            InputError: it is so short that it can be guessed.
        """
        given = environ.get(SECRET, "")
        if not given:
            return cls.from_file(path)
        if len(given) < SHORTEST:
            fix = f"make one with: openssl rand -hex {SHORTEST}"
            raise InputError(f"a secret of {len(given)} characters can be guessed", where=SECRET, fix=fix)
        with disk_errors(path):
            return cls(given.encode(), path.read_bytes() if path.exists() else b"")

    @classmethod
    def from_file(cls, path: Path) -> "Signer":
        """The secret kept in `path` (mode 0600), made when there is none; servers that start together agree on one."""
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
                handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                try:
                    with os.fdopen(handle, "wb") as file:
                        file.write(secrets.token_bytes(32))
                        file.flush()
                        os.fsync(file.fileno())
                    path.hardlink_to(fresh)
                except FileExistsError:
                    pass  # another server was first: its secret counts
                finally:
                    fresh.unlink()
            return cls(path.read_bytes())

    def new(self, prefix: str = "chatcmpl") -> str:
        """A fresh response id; of those that begin otherwise than `chatcmpl` and `cmpl` none is known again."""
        number = _RANDOMS.next()
        return f"{prefix}-{number}-{_signed(self._mac, number)}"

    def knows(self, response_id: str) -> bool:
        """Whether this id was made with our secret."""
        match = _RESPONSE_ID.fullmatch(response_id)
        if match is None:
            return False
        macs = (mac for mac in (self._mac, self._former) if mac is not None)
        return any(hmac.compare_digest(match[2], _signed(mac, match[1])) for mac in macs)


def _signed(key: hmac.HMAC, number: str) -> str:
    mac = key.copy()  # `hmac.digest` lets other threads run first, and a request waits for them
    mac.update(number.encode())
    return mac.hexdigest()[:32]


class Randoms:
    """Random numbers of the operating system, fetched by the kilobyte: a call a number costs more than all of an id."""

    def __init__(self) -> None:
        self._kept: list[str] = []

    def next(self) -> str:
        """96 fresh random bits as 24 hexadecimal digits."""
        try:
            return self._kept.pop()
        except IndexError:
            fresh = os.urandom(_FETCHED * _BYTES).hex()
            kept = [fresh[place : place + 2 * _BYTES] for place in range(0, len(fresh), 2 * _BYTES)]
            self._kept += kept[1:]
            return kept[0]


_BYTES, _FETCHED = 12, 256
_RANDOMS = Randoms()


def request_id(given: str) -> str:
    """The client's own id of a request where it sent a usable one, else a fresh one."""
    return given if given and _REQUEST_ID.fullmatch(given) else f"req-{_RANDOMS.next()}"
