"""The chain: every step asked in order about every record, with a count and a few examples of what each did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacre.base.config import Settings, parse, read_yaml
from nacre.base.errors import InputError
from nacre.data.clean import CLEANERS, in_order
from nacre.data.clean.base import Cleaner
from nacre.data.clean.marks import Marks
from nacre.data.clean.places import Place

EXAMPLES = 3
_CONTEXT_CHARS = 60


@dataclass(slots=True)
class Tally:
    """What one step did.

    Attributes:
        records, texts: how many it changed; `dropped`, how many records it dropped.
        examples: line, text before and after, around the first difference; before is empty where it must not be shown.
    """

    name: str
    cleaner: Cleaner
    records: int = 0
    texts: int = 0
    dropped: int = 0
    examples: list[tuple[int, str, str]] = field(default_factory=list)
    _last: int = 0

    def changed(self, record: int, line: int, before: str, after: str) -> None:
        """Count one text that became another."""
        self.texts += 1
        if record != self._last:
            self.records, self._last = self.records + 1, record
        if len(self.examples) < EXAMPLES:
            shown_before, shown_after = _around(before, after)
            self.examples.append((line, "" if self.cleaner.private else shown_before, shown_after))


class Chain:
    """Steps with their settings, made for one run.

    Args:
        steps: name of each step and its settings; see `choose`. Their order is that of the table, not this one.

    Raises:
        InputError: a step is unknown, or cannot work with its settings.
    """

    def __init__(self, steps: Mapping[str, Settings]) -> None:
        self.tallies = [Tally(name, CLEANERS.load(name)(steps[name])) for name in in_order(set(steps))]
        self._texts = [
            (tally, tally.cleaner.text) for tally in self.tallies if type(tally.cleaner).text is not Cleaner.text
        ]
        self._refusals = [
            (tally, tally.cleaner.refuse) for tally in self.tallies if type(tally.cleaner).refuse is not Cleaner.refuse
        ]
        self._marks = Marks([tally.cleaner.marks() for tally, _ in self._texts])
        self.records = 0

    def prepare(self) -> None:
        """Let the steps read what they need. Their dealings with it are not counted: other objects do it."""
        fresh = [type(tally.cleaner)(tally.cleaner.config).text for tally, _ in self._texts]

        def clean(text: str) -> str:
            for step in fresh:
                if text:
                    text = step(text)
            return text

        for tally in self.tallies:
            tally.cleaner.prepare(clean)

    def clean(self, record: Mapping[str, Any], places: Sequence[Place], line: int = 0) -> tuple[str, str] | None:
        """Clean the texts of a record where they stand.

        Returns:
            None where the record stays, else the name of the step that drops it and the reason.
        """
        self.records += 1
        texts = []
        needed = self._marks.steps
        for place in places:
            text = place.holder[place.key]
            if text and (steps := needed(text)):
                cleaned, emptied = self._stepped(text, steps, line)
                if emptied is not None and not place.optional:
                    emptied.dropped += 1
                    return emptied.name, f"nothing is left of a text ({place.key})"
                if cleaned is not text:
                    place.holder[place.key] = text = cleaned
            texts.append(text)
        for tally, refuse in self._refusals:
            reason = refuse(texts, record)
            if reason:
                tally.dropped += 1
                return tally.name, reason
        return None

    def _stepped(self, text: str, steps: Sequence[int], line: int) -> tuple[str, Tally | None]:
        """A text after the steps that it needs, and the one that left nothing of it."""
        done = -1
        while steps := [step for step in steps if step > done]:
            for done in steps:
                tally, step = self._texts[done]
                cleaned = step(text)
                if cleaned is not text:
                    tally.changed(self.records, line, text, cleaned)
                    emptied = bool(text.strip()) and not cleaned.strip()
                    text = cleaned
                    if emptied:
                        return text, tally
                    steps = self._marks.steps(text)  # what has changed may need other steps than before
                    break
        return text, None

    def notes(self) -> list[str]:
        """What the steps have to say at the end."""
        return [note for tally in self.tallies for note in tally.cleaner.notes()]


def default_steps() -> list[str]:
    """The steps that run when nobody names any, in order."""
    return in_order({name for name in CLEANERS.names() if CLEANERS.load(name).default})


def choose(names: Sequence[str] | None = None, config: Path | None = None) -> dict[str, Settings]:
    """The steps of a run with their settings.

    Args:
        names: exactly these steps; among them ``default`` stands for the default ones and ``all`` for every step
            that needs no file. None: the default ones and those that the file has settings for.
        config: YAML: a step's name and its settings, or true or false. Paths are relative to this file.

    Raises:
        InputError: a step or a setting is unknown or has a wrong value.
    """
    data, text = read_yaml(config) if config is not None else ({}, "")
    where = str(config) if config is not None else "the steps"
    for name, given in data.items():
        CLEANERS.load(str(name), where=where)
        if given is not None and not isinstance(given, dict | bool):
            raise InputError(
                f"the settings of '{name}' are no mapping", where=where, fix=f"write {name}: {{key: value}}"
            )
    if names is None:
        chosen = {*default_steps(), *data} - {name for name, given in data.items() if given is False}
    else:
        chosen = _named(names, data)
    made = {}
    for name in in_order(chosen):
        given = data.get(name)
        cleaner = CLEANERS.load(name, where=where)
        options = given if isinstance(given, dict) else {}
        place = f"{where}, step {name}" if config is not None else f"step {name}, which needs --config"
        settings: Settings = parse(cleaner.Config, options, where=place, text="" if not options else text)
        made[name] = _beside(settings, config.parent) if config is not None else settings
    return made


def _named(names: Sequence[str], data: Mapping[str, Any]) -> set[str]:
    chosen: set[str] = set()
    for name in names:
        if name == "default":
            chosen |= set(default_steps())
        elif name == "all":
            chosen |= {name for name in CLEANERS.names() if name in data or _needs_nothing(name)}
        else:
            CLEANERS.load(name, where="--steps")
            chosen.add(name)
    return chosen


def _needs_nothing(name: str) -> bool:
    fields = CLEANERS.load(name).Config.model_fields
    return name != "leaks" and not any(field.is_required() for field in fields.values())


def _beside(settings: Settings, folder: Path) -> Settings:
    """Settings whose paths are taken from where the settings file lies."""
    changes: dict[str, Any] = {}
    for name, value in settings:
        if isinstance(value, Path):
            changes[name] = folder / value
        elif isinstance(value, tuple) and any(isinstance(item, Path) for item in value):
            changes[name] = tuple(folder / item if isinstance(item, Path) else item for item in value)
    return settings.model_copy(update=changes) if changes else settings


def _around(before: str, after: str) -> tuple[str, str]:
    """Both texts around the first place where they differ."""
    place = next(
        (place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new),
        min(len(before), len(after)),
    )
    start = max(0, place - _CONTEXT_CHARS)
    lead = "…" if start else ""
    return tuple(  # type: ignore[return-value]  # two texts in, two texts out
        lead + text[start : place + _CONTEXT_CHARS] + ("…" if place + _CONTEXT_CHARS < len(text) else "")
        for text in (before, after)
    )
