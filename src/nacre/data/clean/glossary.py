"""One term for one thing: synonyms are replaced by the preferred term of a table.

The table has two columns, synonym and preferred term, as CSV or TSV (a first line ``synonym,preferred`` is skipped), or
is YAML: ``preferred: [synonym, …]`` or ``synonym: preferred``. All terms are looked for at once by an automaton (Aho
and Corasick 1975), so a table of 100,000 terms costs a text hardly more than one of 500. The longest match wins. Latin
terms match whole words whatever their case; all-capital terms of up to five letters (MI, COPD) only as written.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from string import ascii_letters
from typing import ClassVar

import ahocorasick
from pydantic import Field

from nacre.base.config import Settings, read_yaml
from nacre.base.errors import InputError
from nacre.data.clean.base import Cleaner
from nacre.data.encoding import open_bytes, sniff

_ACRONYM_CHARS = 5
_HEADINGS = {"synonym", "synonyms", "term", "from", "variant"}
_LATIN = frozenset({*"_0123456789", *ascii_letters, *map(chr, range(0xC0, 0x250))})
_MARKED_TERMS = 2000  # of a larger table the automaton of all steps' marks would take long to make
_ROUNDS = 8  # a replacement may complete another term; a table that never comes to rest is given up after so many


class GlossaryConfig(Settings):
    """Settings of the step `glossary`."""

    file: Path = Field(description="the table: CSV, TSV or YAML, synonym and preferred term")


class Glossary(Cleaner):
    """Replaces synonyms by preferred terms."""

    does: ClassVar[str] = "synonyms become the preferred term of a table (file: terms.csv)"
    default: ClassVar[bool] = False
    Config = GlossaryConfig

    def __init__(self, config: GlossaryConfig) -> None:
        super().__init__(config)
        self._terms, self._notes = resolved(read_terms(config.file), str(config.file))
        self._automaton = ahocorasick.Automaton()
        for synonym, preferred in self._terms.items():
            self._automaton.add_word(synonym.lower(), (len(synonym), synonym, preferred))
        for preferred in {*self._terms.values()}:  # a preferred term is found as itself, so that no part of it is
            if preferred.lower() not in self._automaton:
                self._automaton.add_word(preferred.lower(), (len(preferred), preferred, preferred))
        self._automaton.make_automaton()

    def marks(self) -> list[str] | None:
        """The synonyms themselves, unless there are very many."""
        if len(self._terms) > _MARKED_TERMS:
            return None
        capitals = _capitals()
        alone = [sign for small in capitals if small.isascii() for sign in capitals[small]]  # such as the Kelvin sign
        return [*(_mark(synonym.lower(), capitals) for synonym in self._terms), *alone]

    def text(self, text: str) -> str:
        """The text in preferred terms."""
        cleaned = text
        for _ in range(_ROUNDS):
            once = self._replaced(cleaned)
            if once is cleaned:
                break
            cleaned = once
        return text if cleaned == text else cleaned

    def notes(self) -> list[str]:
        """What in the table could not be followed."""
        return self._notes

    def _replaced(self, text: str) -> str:
        lowered = _lower(text)
        found = [
            (end + 1 - length, -length, synonym, preferred)
            for end, (length, synonym, preferred) in self._automaton.iter(lowered)
        ]
        if not found:
            return text
        found.sort()
        parts, done = [], 0
        for start, minus, synonym, preferred in found:
            end = start - minus
            written = text[start:end]
            if start < done or not _whole_word(text, start, end) or (_is_acronym(synonym) and written != synonym):
                continue
            if written.lower() != preferred.lower():
                parts += [text[done:start], _cased(written, preferred)]
                self.counts[preferred] += 1
                done = end
            else:
                parts.append(text[done:end])
                done = end
        replaced = "".join((*parts, text[done:]))
        return text if replaced == text else replaced


def read_terms(path: Path) -> list[tuple[str, str]]:
    """Pairs of synonym and preferred term.

    Raises:
        InputError: no such file, or a line that is no pair.
    """
    if path.suffix in (".yaml", ".yml"):
        pairs = list(_yaml_pairs(path))
    else:
        with open_bytes(path) as file:
            text = file.read().decode(sniff(path).codec, errors="replace").removeprefix("\ufeff")
        pairs = list(_table_pairs(path, text.splitlines()))
    if not pairs:
        raise InputError("the glossary has no terms", where=str(path), fix="write one pair a line: synonym,preferred")
    return pairs


def _yaml_pairs(path: Path) -> Iterator[tuple[str, str]]:
    for key, value in read_yaml(path)[0].items():
        if isinstance(value, list):
            yield from ((str(synonym).strip(), str(key).strip()) for synonym in value)
        else:
            yield str(key).strip(), str(value).strip()


def _table_pairs(path: Path, lines: list[str]) -> Iterator[tuple[str, str]]:
    tabs = path.suffix == ".tsv" or any("\t" in line for line in lines[:5])
    for number, cells in enumerate(csv.reader(lines, delimiter="\t" if tabs else ","), 1):
        if not cells or not any(cell.strip() for cell in cells):
            continue
        if number == 1 and cells[0].strip().lower() in _HEADINGS:
            continue
        if len(cells) != 2 or not cells[0].strip() or not cells[1].strip():
            what = f"the line has {len(cells)} columns" if len(cells) != 2 else "a term is empty"
            raise InputError(what, where=f"{path}, line {number}", fix="write two columns: synonym, preferred term")
        yield cells[0].strip(), cells[1].strip()


def resolved(pairs: Iterable[tuple[str, str]], where: str) -> tuple[dict[str, str], list[str]]:
    """The table with chains followed to their end (a to b and b to c make a to c), and what could not be followed."""
    table: dict[str, str] = {}
    spelt: dict[str, str] = {}
    doubles = 0
    for synonym, preferred in pairs:
        key = synonym.lower()
        if key == preferred.lower():
            continue
        if key in spelt:
            doubles += table[spelt[key]] != preferred
            continue
        spelt[key] = synonym
        table[synonym] = preferred
    notes = [f"glossary: {doubles} synonyms stand twice with different terms; the first one holds"] if doubles else []
    rings = 0
    followed: dict[str, str] = {}
    for synonym, preferred in table.items():
        passed = {synonym.lower()}
        while (following := spelt.get(preferred.lower())) and preferred.lower() not in passed:
            passed.add(preferred.lower())
            preferred = table[following]
        if preferred.lower() in passed:
            rings += 1
        else:
            followed[synonym] = preferred
    if rings:
        notes.append(f"glossary: {rings} terms lead in a circle in {where} and are left out")
    return followed, notes


@cache
def _capitals() -> Mapping[str, str]:
    """What becomes each letter when it is made small, beyond ASCII's own capitals."""
    found = {"ς": "Σ"}  # at the end of a word
    for sign in map(chr, range(0x80, 0x20000)):
        small = sign.lower()
        if small != sign and len(small) == 1:
            found[small] = found.get(small, "") + sign
    return found


def _mark(term: str, capitals: Mapping[str, str]) -> str:
    signs = []
    for sign in term:
        if sign.isascii():
            signs.append(sign if sign.isalnum() else f"\\x{ord(sign):02x}")
        else:
            signs.append(f"({'|'.join((sign, *capitals[sign]))})" if sign in capitals else sign)
    return f"(?i){''.join(signs)}"


def _lower(text: str) -> str:
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := sign.lower()) == 1 else sign for sign in text)


def _is_acronym(term: str) -> bool:
    return len(term) <= _ACRONYM_CHARS and term.isascii() and term.isupper()


def _whole_word(text: str, start: int, end: int) -> bool:
    """Latin letters and figures must not run on over either end of a term; Chinese has no such ends."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (_joins(before) and _joins(text[start])) and not (_joins(after) and _joins(text[end - 1]))


def _joins(sign: str) -> bool:
    return sign in _LATIN


def _cased(written: str, preferred: str) -> str:
    """At the beginning of a sentence the term keeps the capital that the synonym had."""
    capital = written[0].isupper() and written[1:].islower() and preferred[0].islower()
    return preferred[0].upper() + preferred[1:] if capital else preferred
