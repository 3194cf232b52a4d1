"""Keys to the API. The ledger keeps SHA-256 hashes: a key is 192 random bits, so there is nothing to guess or to salt.

What keys have used is kept a day and key, added up by all gateways.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from nacre.base.clock import now
from nacre.base.errors import InputError, unknown
from nacre.records.key import SCOPES, Key, Limits, Period, Scope
from nacre.registry import events
from nacre.registry.database import Database
from nacre.registry.tables import key, key_use, meta

PREFIX = "nk"
_FORM = re.compile(rf"{PREFIX}_([0-9a-f]{{8}})_[0-9a-f]{{48}}")
_CHANGES = "keys"  # in `meta`: rises with every change, so that gateways need not read the keys to know


@dataclass(frozen=True)
class Held:
    """A key with the hashes of the secrets that open it: of the present one, and of the one before while it counts."""

    key: Key
    hash: str
    old_hash: str = ""


@dataclass(frozen=True)
class Used:
    """What one key has used in one day."""

    requests: int = 0
    tokens: int = 0


def key_id(secret: str) -> str | None:
    """The public part of a key, where it has the form of one."""
    match = _FORM.fullmatch(secret)
    return match[1] if match else None


def key_hash(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """The keys of one ledger. Every change is one transaction with its event; no event names a secret."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def changes(self) -> int:
        """Rises with every change of any key; cheap enough to ask each second."""
        with self._database.read() as connection:
            return _changes(connection)

    def all(self) -> list[Held]:
        """Every key, also those revoked and expired, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(key).order_by(key.c.created, key.c.id))
            return [Held(Key.from_json(row.record), row.hash, row.old_hash) for row in rows]

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        limits: Limits | None = None,
        expires_s: float | None = None,
        actor: str = "user",
    ) -> tuple[Key, str]:
        """Make a key; returns it with its secret, which nobody can read again.

        Args:
            name: whose it is.
            scopes: of `SCOPES`, at least one.
            limits: how much it may ask for.
            expires_s: seconds for which it opens anything; None for ever.
            actor: who makes it.

        Raises:
            InputError: no scope or an unknown one, or a time that is not above nought.
        """
        wanted = _scopes(scopes)
        if not name.strip() or len(name) > 80 or not name.isprintable():
            raise InputError("a key needs a name of 1 to 80 printable letters", where="name", fix="say whose key it is")
        with self._database.write() as connection:
            identity = _fresh_id(connection)
            secret = _secret(identity)
            made = Key(
                id=identity,
                name=name,
                scopes=wanted,
                limits=limits or Limits(),
                created=now(),
                expires="" if expires_s is None else _after(expires_s),
            )
            values = {"id": identity, "hash": key_hash(secret), "old_hash": "", "created": made.created}
            connection.execute(key.insert().values(values | {"record": made.to_json()}))
            _tell(connection, "key created", actor, made)
        return made, secret

    def rotate(self, identity: str, *, grace_s: float = 0.0, actor: str = "user") -> tuple[Key, str]:
        """Give a key a new secret; the present one opens for `grace_s` seconds more.

        Raises:
            InputError: there is no such key, or it was revoked or has expired.
        """
        with self._database.write() as connection:
            held = _held(connection, identity)
            if not held.key.opens(now()):
                ended = "was revoked" if held.key.revoked else "has expired"
                raise InputError(f"key {identity} {ended}", where="keys", fix="nacre keys create makes another")
            secret = _secret(identity)
            grace = _after(grace_s) if grace_s > 0 else ""
            after = held.key.changed(rotated=now(), old_until=grace)
            changed = {"hash": key_hash(secret), "old_hash": held.hash if grace else "", "record": after.to_json()}
            connection.execute(key.update().where(key.c.id == identity).values(changed))
            _tell(connection, "key rotated", actor, after)
        return after, secret

    def revoke(self, identity: str, *, actor: str = "user") -> Key:
        """Take a key back; gateways refuse it within a second or two. A second time changes nothing.

        Raises:
            InputError: there is no such key.
        """
        with self._database.write() as connection:
            found = _held(connection, identity).key
            if found.revoked:
                return found
            after = found.changed(revoked=now(), old_until="")
            values = {"record": after.to_json(), "old_hash": ""}
            connection.execute(key.update().where(key.c.id == identity).values(values))
            _tell(connection, "key revoked", actor, after)
        return after

    def add_use(self, used: Mapping[str, Used], day: str | None = None) -> None:
        """Add to what keys have used today (or on `day`, ``2026-05-01``)."""
        today = day or now()[:10]
        with self._database.write() as connection:
            for identity, one in sorted(used.items()):
                where = sa.and_(key_use.c.key == identity, key_use.c.day == today)
                more = {"requests": key_use.c.requests + one.requests, "tokens": key_use.c.tokens + one.tokens}
                if not connection.execute(key_use.update().where(where).values(more)).rowcount:
                    values = {"key": identity, "day": today, "requests": one.requests, "tokens": one.tokens}
                    connection.execute(key_use.insert().values(values))

    def use(self, period: Period = "total", day: str | None = None) -> dict[str, Used]:
        """What each key has used today, in this month, or ever, by its id; `day` is taken for today."""
        today = day or now()[:10]
        query = sa.select(key_use.c.key, sa.func.sum(key_use.c.requests), sa.func.sum(key_use.c.tokens))
        since = {"day": today, "month": f"{today[:7]}-01", "total": ""}[period]
        with self._database.read() as connection:
            rows = connection.execute(query.where(key_use.c.day >= since).group_by(key_use.c.key))
            return {identity: Used(int(requests), int(tokens)) for identity, requests, tokens in rows}


def _scopes(given: Sequence[str]) -> tuple[Scope, ...]:
    for one in given:
        if one not in SCOPES:
            raise unknown("scope", one, SCOPES, where="scopes")
    if not given:
        raise InputError("a key without a scope opens nothing", where="scopes", fix=f"choose of {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in given)


def _after(seconds: float) -> str:
    try:
        if not seconds > 0:
            raise OverflowError
        return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError):
        raise InputError("a time must be above nought and end before the year 9999", where="keys") from None


def _secret(identity: str) -> str:
    return f"{PREFIX}_{identity}_{secrets.token_hex(24)}"


def _fresh_id(connection: sa.Connection) -> str:
    taken = set(connection.execute(sa.select(key.c.id)).scalars())
    return next(one for one in iter(lambda: secrets.token_hex(4), None) if one not in taken)


def _held(connection: sa.Connection, identity: str) -> Held:
    row = connection.execute(sa.select(key).where(key.c.id == identity)).first()
    if row is None:
        known = connection.execute(sa.select(key.c.id).order_by(key.c.created)).scalars().all()
        if known:
            raise unknown("key", identity[:80], known, where="keys")
        raise InputError("there are no keys yet", where="keys", fix="nacre keys create makes one")
    return Held(Key.from_json(row.record), row.hash, row.old_hash)


def _tell(connection: sa.Connection, kind: str, actor: str, changed: Key) -> None:
    told = {"key": changed.id, "name": changed.name, "scopes": list(changed.scopes), "expires": changed.expires}
    events.append(connection, kind, actor, told)
    value = str(_changes(connection) + 1)
    if not connection.execute(meta.update().where(meta.c.name == _CHANGES).values(value=value)).rowcount:
        connection.execute(meta.insert().values(name=_CHANGES, value=value))


def _changes(connection: sa.Connection) -> int:
    found = connection.execute(sa.select(meta.c.value).where(meta.c.name == _CHANGES)).scalar_one_or_none()
    return int(found or 0)
