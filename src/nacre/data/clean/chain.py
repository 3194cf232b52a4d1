"""The chain: every step asked in order about every record, with a count and a few examples of what each did."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacre.base.config import Settings, parse, read_yaml
from nacre.base.errors import InputError
from nacre.data.clean import CLEANERS, in_order
from nacre.data.clean.base import Cleaner
from nacre.data.clean.leaks import Leaks
from nacre.data.clean.marks import Marks
from nacre.data.clean.places import Place

EXAMPLES = 3
_CONTEXT_CHARS = 60
_ROUNDS = 8  # over the text steps; those that undo each other (a date, and a glossary with that date) are left so


@dataclass(frozen=True, slots=True)
class Share:
    """What one step did to some of the records; `counts` is what it found by kind. See `Tally`."""

    records: int
    texts: int
    dropped: int
    examples: tuple[tuple[int, str, str], ...]
    counts: Mapping[str, int]


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

    def taken(self) -> Share:
        """What was counted so far; counting begins anew."""
        share = Share(self.records, self.texts, self.dropped, tuple(self.examples), dict(self.cleaner.counts))
        self.records = self.texts = self.dropped = self._last = 0
        self.examples.clear()
        self.cleaner.counts.clear()
        return share

    def add(self, share: Share) -> None:
        """Count what was done elsewhere to the records that follow on those counted here."""
        self.records += share.records
        self.texts += share.texts
        self.dropped += share.dropped
        self.examples += share.examples[: EXAMPLES - len(self.examples)]
        for kind, count in share.counts.items():
            self.cleaner.counts[kind] += count


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
        remembering = [place for place, (tally, _) in enumerate(self._refusals) if tally.cleaner.remembers]
        first = remembering[0] if remembering else len(self._refusals)
        self._alone, self._remembering = self._refusals[:first], self._refusals[first:]
        self._marks = Marks([tally.cleaner.marks() for tally, _ in self._texts])
        self.records = 0

    def __enter__(self) -> "Chain":
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the steps close what they opened."""
        for tally in self.tallies:
            tally.cleaner.close()

    def prepare(self, dev: Sequence[Sequence[str]] = ()) -> None:
        """Let the steps read what they need. Their dealings with it are not counted: other objects do it.

        Args:
            dev: texts of dev rows that stand in no file, for the step `leaks`.
        """
        fresh: list[Callable[[str], str]] = []

        def clean(text: str) -> str:
            if not fresh:  # only now: a large glossary takes a while to read
                fresh.extend(type(tally.cleaner)(tally.cleaner.config).text for tally, _ in self._texts)
            for _ in range(_ROUNDS):
                before = text
                for step in fresh:
                    if text:
                        text = step(text)
                if text is before:
                    break
            return text

        for tally in self.tallies:
            if isinstance(tally.cleaner, Leaks):
                tally.cleaner.known = dev
            tally.cleaner.prepare(clean)

    def clean(self, record: Mapping[str, Any], places: Sequence[Place], line: int = 0) -> tuple[str, str] | None:
        """Clean the texts of a record where they stand.

        Returns:
            None where the record stays, else the name of the step that drops it and the reason.
        """
        found = self.texts(record, places, line)
        return found if isinstance(found, tuple) else self.alone(found, record) or self.remembering(found, record)

    def texts(self, record: Mapping[str, Any], places: Sequence[Place], line: int = 0) -> list[str] | tuple[str, str]:
        """The first half of `clean`: the cleaned texts, or the step that drops the record and the reason."""
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
        return texts

    def alone(self, texts: Sequence[str], record: Mapping[str, Any]) -> tuple[str, str] | None:
        """Which of the steps that come before any that remembers drops the record, and the reason."""
        return _refusal(self._alone, texts, record)

    def remembering(self, texts: Sequence[str], record: Mapping[str, Any]) -> tuple[str, str] | None:
        """The steps after `alone`, which must be asked for all records that it lets pass, in order."""
        return _refusal(self._remembering, texts, record)

    def _stepped(self, text: str, steps: Sequence[int], line: int) -> tuple[str, Tally | None]:
        """A text after the steps that it needs, and the one that left nothing of it."""
        for again in range(_ROUNDS):
            last = done = -1
            while later := [step for step in steps if step > done]:
                for done in later:
                    tally, step = self._texts[done]
                    cleaned = self._again(done, text) if again else step(text)
                    if cleaned is not text:
                        tally.changed(self.records, line, text, cleaned)
                        emptied = bool(text.strip()) and not cleaned.strip()
                        text, last = cleaned, done
                        if emptied:
                            return text, tally
                        steps = self._marks.steps(text)  # what has changed may need other steps than before
                        break
            # a later step may have brought to light what an earlier one is there for
            if last < 0 or not (steps := [step for step in steps if step < last]):
                break
        return text, None

    def _again(self, place: int, text: str) -> str:
        """What a step makes of a text that it has seen before. What it lets stand was counted then."""
        tally, step = self._texts[place]
        counts = tally.cleaner.counts.copy()
        cleaned = step(text)
        if cleaned is text:
            tally.cleaner.counts.clear()
            tally.cleaner.counts.update(counts)
        return cleaned

    def notes(self) -> list[str]:
        """What the steps have to say at the end."""
        return [note for tally in self.tallies for note in tally.cleaner.notes()]


def _refusal(
    refusals: Sequence[tuple[Tally, Callable[[Sequence[str], Mapping[str, Any]], str]]],
    texts: Sequence[str],
    record: Mapping[str, Any],
) -> tuple[str, str] | None:
    for tally, refuse in refusals:
        reason = refuse(texts, record)
        if reason:
            tally.dropped += 1
            return tally.name, reason
    return None


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
