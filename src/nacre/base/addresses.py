"""Addresses of servers and databases as they may be shown: scheme, host and port. The rest can hold a secret."""

import re
from urllib.parse import urlsplit

_HOST = re.compile(r"[\w.-]+|[0-9a-fA-F:.%]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_AROUND = "'\"`<>(),;:."  # may end an address in a sentence
_PATH_IN_TEXT = re.compile(r"(\burl: )/\S*")  # how urllib3 names what it asked for


def shown_address(address: str) -> str:
    """An address for people: ``scheme://host:port``, or the file of a SQLite database.

    Where it is not plain what of it is the host, only the scheme is shown.
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        return "…"
    if address.startswith("sqlite:///"):
        return address.partition("?")[0]
    unclear = f"{scheme[0]}://…"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return unclear
    if "@" in parts.path + parts.query + parts.fragment or not _HOST.fullmatch(host):
        return unclear  # perhaps all of it is the end of a password
    return f"{scheme[0]}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"


def netloc(address: str) -> str:
    """What stands between ``//`` and the path: name and password, host, port; empty where it is no address."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def scrubbed(text: str) -> str:
    """A program's error in one line, each address in it as `shown_address` has it."""
    line = _IN_TEXT.sub(lambda found: shown_address(found[0].rstrip(_AROUND)), " ".join(text.split()))
    return _PATH_IN_TEXT.sub(r"\1/…", line)
