"""Personal data out of a text: masked, replaced by a pseudonym, or the record dropped.

Numbers are told by their check digits, names and addresses by what stands beside them (and the user's own list). A
pseudonym is a keyed hash (HMAC-SHA-256) of what it replaces: with the same key the same person is the same word in
every file, and without the key nobody can try out names. What is left behind, ``[PHONE]`` or ``[PHONE-BDFGHJKL]``, is
read by no rule again.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import ahocorasick
from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.data.clean import pii_context as context
from nacre.data.clean import pii_numbers as numbers
from nacre.data.clean.base import Cleaner
from nacre.data.clean.marks import Marks
from nacre.data.clean.pii_numbers import Kind, Pattern
from nacre.data.encoding import open_bytes, sniff

KINDS: tuple[Kind, ...] = ("EMAIL", "ID", "CARD", "PASSPORT", "IP", "PLATE", "PHONE", "ADDRESS", "NAME")

_CONSONANTS = "BCDFGHJKLMNPQRSTVWXZ"
_PSEUDONYM_CHARS = 8
_NUMBER_SIGN = "0号".encode()
_PATTERNS: dict[Kind, tuple[Pattern, ...]] = {
    "EMAIL": numbers.EMAIL,
    "ID": numbers.IDENTITY,
    "CARD": numbers.CARD,
    "PASSPORT": numbers.PASSPORT,
    "IP": numbers.IP,
    "PLATE": numbers.PLATE,
    "PHONE": numbers.PHONE,
    "ADDRESS": context.ADDRESSES,
    "NAME": context.NAMES,
}
_MARKS: dict[Kind, tuple[str, ...]] = {**numbers.MARKS, "ADDRESS": context.ADDRESS_MARKS, "NAME": context.NAME_MARKS}
_PARTS: dict[Kind, Sequence[tuple[tuple[str, ...], tuple[Pattern, ...]]]] = {
    "ADDRESS": context.ADDRESS_PARTS,
    "NAME": context.NAME_PARTS,
}
"""Of the kinds with slow patterns, which marks stand for which patterns."""


class PiiConfig(Settings):
    """Settings of the step `pii`."""

    action: Literal["mask", "pseudonymise", "drop"] = Field(
        "mask", description="put [PHONE] in its place, a pseudonym such as [PHONE-BDFGHJKL], or drop the whole record"
    )
    kinds: tuple[Kind, ...] = Field(KINDS, description="what is looked for")
    key_env: str = Field("NACRE_PII_KEY", description="environment variable with the key for pseudonyms")
    names: tuple[str, ...] = Field((), description="names (or anything else) to be found wherever they stand")
    names_file: Path | None = Field(None, description="the same, a line each")


class Pii(Cleaner):
    """Rules for China and for the English-speaking world; e-mail, card and IP are the same everywhere."""

    does: ClassVar[str] = "identity numbers, phones, e-mail, cards, passports, plates, IPs, addresses, names"
    default: ClassVar[bool] = False
    private: ClassVar[bool] = True
    Config = PiiConfig

    def __init__(self, config: PiiConfig) -> None:
        super().__init__(config)
        self._drop = config.action == "drop"
        self._key_env = config.key_env
        self._key = _key(config.key_env) if config.action == "pseudonymise" else b""
        self._listed = _automaton(_listed(config))
        self._looked_for = [kind for kind in KINDS if kind in config.kinds]
        parts = [part for kind in self._looked_for for part in _PARTS.get(kind, [(_MARKS[kind], _PATTERNS[kind])])]
        self._patterns = [patterns for _, patterns in parts]
        self._parts_in = Marks([marks for marks, _ in parts])

    def environment(self) -> list[str]:
        """Where the key for pseudonyms is."""
        return [self._key_env] if self._key else []

    def marks(self) -> list[str] | None:
        """The outline of each kind that is looked for."""
        if self._listed is not None:
            return None
        return [mark for kind in self._looked_for for mark in _MARKS[kind]]

    def text(self, text: str) -> str:
        """The text with nobody in it; until nothing more is found, because a mask may free its neighbour."""
        if not self._drop:
            while (cleaned := self._masked(text)) is not text:
                text = cleaned
        return text

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether a text has personal data, where such records are dropped."""
        if self._drop:
            for text in texts:
                before = self.counts.copy()
                if text and self._masked(text) is not text:
                    return f"a text holds personal data: {', '.join(self.counts - before)}"
        return ""

    def _masked(self, text: str) -> str:
        cleaned = text
        for place in self._parts_in.steps(text):
            cleaned = self._apply(self._patterns[place], cleaned)
        if self._listed is not None:
            cleaned = self._names_listed(cleaned)
        return text if cleaned == text else cleaned

    def _apply(self, patterns: Sequence[Pattern], text: str) -> str:
        for pattern in patterns:
            group, parts, done = pattern.group, list[str](), 0
            for match in pattern.expression.finditer(text):
                found = match[group]
                if found and pattern.check(found):
                    parts += [text[done : match.start(group)], self._instead(pattern.kind, found)]
                    done = match.end(group)
            if parts:
                text = "".join((*parts, text[done:]))
        return text

    def _instead(self, kind: str, found: str) -> str:
        self.counts[kind] += 1
        return f"[{kind}-{pseudonym(self._key, kind, found)}]" if self._key else f"[{kind}]"

    def _names_listed(self, text: str) -> str:
        parts, done = [], 0
        for end, length in sorted(self._listed.iter(text), key=lambda hit: (hit[0] - hit[1], -hit[1])):
            start, stop = end + 1 - length, end + 1
            if start >= done and _apart(text, start, stop):
                parts += [text[done:start], self._instead("NAME", text[start:stop])]
                done = stop
        return "".join((*parts, text[done:])) if parts else text


def pseudonym(key: bytes, kind: str, found: str) -> str:
    """Eight consonants that stand for this value: letters alone, so that no rule takes them for a number."""
    value = numbers.digits_of(found).removeprefix("+") if kind in ("ID", "CARD", "PHONE") else " ".join(found.split())
    if kind == "PHONE" and len(value) > 11:
        value = value.removeprefix("00").removeprefix("86")  # the same phone with and without its country
    digest = int.from_bytes(hmac.new(key, f"{kind}\0{value.lower()}".encode(), hashlib.sha256).digest())
    signs = []
    for _ in range(_PSEUDONYM_CHARS):
        digest, place = divmod(digest, len(_CONSONANTS))
        signs.append(_CONSONANTS[place])
    return "".join(signs)


def _key(variable: str) -> bytes:
    key = os.environ.get(variable, "")
    if len(key) < 16:
        what = f"pseudonyms need a key of at least 16 characters in {variable}"
        fix = f"export {variable}=$(openssl rand -hex 32), and keep it: the same key gives the same pseudonyms"
        raise InputError(what, where="pii, key key_env", fix=fix)
    return key.encode()


def _listed(config: PiiConfig) -> list[str]:
    names = list(config.names)
    if config.names_file is not None:
        with open_bytes(config.names_file) as file:
            names += file.read().decode(sniff(config.names_file).codec, errors="replace").splitlines()
    return [stripped for name in names if (stripped := name.strip("\ufeff \t\r\n"))]


def _automaton(names: list[str]) -> Any:
    if not names:
        return None
    found = ahocorasick.Automaton()
    for name in names:
        found.add_word(name, len(name))
    found.make_automaton()
    return found


def _apart(text: str, start: int, stop: int) -> bool:
    """Latin names must be words of their own, and not the word inside a mask."""
    letter = re.compile("[0-9A-Za-z\u00c0-\u024f_]")
    before, after = text[start - 1 : start] if start else "", text[stop : stop + 1]
    if before == "[" and after in ("]", "-"):
        return False
    return not (letter.match(before) and letter.match(text[start])) and not (
        letter.match(after) and letter.match(text[stop - 1])
    )
