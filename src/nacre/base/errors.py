"""The one root error. Every message says what happened, where, and what to do."""

import difflib
from collections.abc import Iterable


class NacreError(Exception):
    """What happened, where (file, line, key), and what to do about it.

    Args:
        what: one sentence, e.g. ``"the ledger is locked by another process"``.
        where: file, line, key or slot the sentence is about.
        fix: the next thing the user should do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.fix)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"where: {self.where}")
        if self.fix:
            lines.append(f"fix: {self.fix}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The same three parts for ``--json`` output."""
        return {"what": self.what, "where": self.where, "fix": self.fix}


class InputError(NacreError, ValueError):
    """The user's input (file, flag, key, name) is wrong: exit code 2."""

    exit_code = 2


class ConflictError(NacreError):
    """Somebody else changed what this operation was based on: nothing was written."""


def _rebuild(kind: type[NacreError], what: str, where: str, fix: str) -> NacreError:
    return kind(what, where=where, fix=fix)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None when nothing is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> InputError:
    """The error for a name that is in no table: suggests the nearest one and lists all."""
    names = sorted(known)
    close = nearest(name, names)
    hint = f"did you mean '{close}'? " if close else ""
    return InputError(f"unknown {kind} '{name}'", where=where, fix=f"{hint}Known: {', '.join(names) or 'none'}")
