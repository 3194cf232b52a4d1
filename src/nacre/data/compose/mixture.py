"""One file out of several datasets, in a stated ratio: `nacre data compose`.

In this order: the sources are read, rows that are like dev rows leave, each source is balanced, the sources are mixed,
rows are added by templates and typing mistakes, demonstrations come into the prompts, and the rows are put in order.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.base.hashing import sha256_text
from nacre.data.compose.augment import Augment, augment
from nacre.data.compose.balance import Balance, balance, classes_of
from nacre.data.compose.demonstrations import Demonstrations, demonstrate
from nacre.data.compose.likeness import Likeness, plain
from nacre.data.compose.pieces import Piece, dropped_note, question_of, read_pieces, text_of, write_pieces
from nacre.data.compose.split import NEAR
from nacre.data.convert import SHORT_CHARS
from nacre.data.curriculum import COLUMN, column, easy_first, lengths
from nacre.data.schedule import apportion, in_proportion
from nacre.records import Example
from nacre.records.base import Record

LENGTH = "length"


class Source(Settings):
    """One dataset of a mixture."""

    name: str = Field(description="a name in dataset_info.json, an increment, or a file")
    weight: float = Field(1.0, gt=0, description="its part of the mixture beside the others")


class Composition(Settings):
    """What `nacre data compose` reads."""

    sources: tuple[Source, ...] = Field(min_length=1, description="what is mixed")
    limit: int | None = Field(None, ge=1, description="rows of the mixture; default: as many as the ratio allows")
    repeats: int = Field(1, ge=1, description="how often a row may come so that the ratio holds")
    dev: tuple[str, ...] = Field((), description="datasets and files whose rows must not be trained on")
    near: float = Field(
        NEAR, ge=0.5, description="Jaccard coefficient from which a row is like a dev row; 2: equal ones"
    )
    balance: Balance | None = Field(None, description="classes of each source, to a ratio")
    augment: Augment | None = Field(None, description="more rows, by templates and typing mistakes")
    demonstrations: Demonstrations | None = Field(None, description="rows of the same task shown in each prompt")
    curriculum: str = Field("none", description="order of the rows: none (mixed), length, or column:NAME, rising")
    seed: int = Field(0, description="of all choices")


class Composed(Record):
    """What came of it: the file, its rows by source and by class, dev rows written, and what was done on the way."""

    out: str
    rows: int
    dev: int = 0
    sources: dict[str, int]
    classes: dict[str, int]
    notes: tuple[str, ...]


@dataclass
class _Read:
    pool: list[list[Piece]]
    own_dev: list[Piece]  # of the sources
    dev: list[Example]  # all that must not be trained on
    notes: list[str]


def compose(
    settings: Composition,
    dataset_dir: Path,
    out: Path,
    *,
    past: Sequence[Example] = (),
    dev_out: Path | None = None,
) -> Composed:
    """Write one file as the settings say; each row keeps where it came from, and what was done to it.

    Args:
        settings: what is mixed, and how.
        dataset_dir: where datasets are looked for.
        out: JSON lines.
        past: more dev rows that must not be trained on.
        dev_out: where the dev rows of the sources go, all of them, with demonstrations if the train rows have them.

    Raises:
        InputError: a source, column or setting that cannot be used; or dev rows are asked for and no source has any.
        NacreError: the disk is full or cannot be written.
    """
    names = [source.name for source in settings.sources]
    if len(set(names)) < len(names):
        raise InputError("a source is named twice", where="sources", fix="name it once, with the weights added up")
    read = _read(settings, dataset_dir, past)
    if dev_out is not None and not read.own_dev:
        fix = "split a source first (nacre data split), or leave --dev-out away"
        raise InputError("no source has dev rows", where=f"--dev-out {dev_out}", fix=fix)
    notes = read.notes
    pools = read.pool
    if settings.balance is not None:
        balanced = []
        for name, pool in zip(names, pools, strict=True):
            rows, said = balance(pool, settings.balance, settings.seed)
            balanced.append(rows)
            notes += [f"{name}: {one}" for one in said]
        pools = balanced
    mixed, counts = _mix(pools, settings, notes)
    if settings.augment is not None:
        mixed, said = augment(mixed, settings.augment, settings.seed)
        notes += said
        mixed = _without(mixed, read.dev, settings.near, "augmented", notes)
    rows = _in_order(mixed, settings.curriculum, settings.seed, notes)
    dev = read.own_dev
    if settings.demonstrations is not None:
        rows, dev = _demonstrated(rows, read, settings.demonstrations, settings.seed, asked=dev_out is not None)
    classes = Counter(name for name in classes_of(mixed, settings.balance.by if settings.balance else "answer") if name)
    count = write_pieces(out, rows)
    return Composed(
        out=str(out),
        rows=count,
        dev=write_pieces(dev_out, dev) if dev_out is not None else 0,
        sources=dict(zip(names, counts, strict=True)),
        classes=dict(classes.most_common()),
        notes=tuple(notes),
    )


def _demonstrated(
    rows: list[Piece], read: _Read, how: Demonstrations, seed: int, *, asked: bool
) -> tuple[list[Piece], list[Piece]]:
    """The train rows and the sources' dev rows, both with train rows in their prompts."""
    pool = [row for part in read.pool for row in part]
    rows, said = demonstrate(rows, how, pool=pool, dev=read.dev, seed=seed)
    read.notes += said
    dev, said = demonstrate(read.own_dev, how, pool=pool, dev=read.dev, seed=seed) if asked else (read.own_dev, [])
    read.notes += [f"dev, {one}" for one in said]
    if not asked:
        read.notes.append(
            "demonstrations: no dev row was written with them (--dev-out does): who asks without demonstrations asks "
            "otherwise than the rows do"
        )
    return rows, dev


def _read(settings: Composition, dataset_dir: Path, past: Sequence[Example]) -> _Read:
    notes: list[str] = []
    own_dev: list[Piece] = []
    for source in settings.sources:
        held = read_pieces(source.name, dataset_dir, "dev")
        notes += [f"dev, {one}" for one in dropped_note(held.dropped)]
        own_dev += [row.marked(source=source.name[:SHORT_CHARS]) for row in held.rows]
    dev = [*past, *(row.example for row in own_dev)]
    for name in settings.dev:
        found = read_pieces(name, dataset_dir)
        dev += [row.example for row in found.rows]
    pools = []
    for source in settings.sources:
        found = read_pieces(source.name, dataset_dir)
        notes += [*found.notes, *dropped_note(found.dropped)]
        rows = [Piece(row.example, row.raw).marked(source=source.name[:SHORT_CHARS]) for row in found.rows]
        pools.append(_without(rows, dev, settings.near, source.name, notes))
    return _Read(pools, own_dev, dev, notes)


def _without(rows: list[Piece], dev: Sequence[Example], near: float, name: str, notes: list[str]) -> list[Piece]:
    """The rows that are like no dev row."""
    if not dev:
        return rows
    count = len(rows)
    likeness = Likeness([text_of(row.example) for row in rows] + [text_of(one) for one in dev], near)
    like = set(likeness.like_any(range(count), range(count, count + len(dev))))
    asked = {plain(question_of(one)) for one in dev if one.kind != "text"}
    like |= {place for place, row in enumerate(rows) if plain(question_of(row.example)) in asked}
    if like:
        notes.append(f"{name}: {len(like)} of {count} rows are like a dev row and were left out")
    kept = [row for place, row in enumerate(rows) if place not in like]
    if not kept:
        fix = "add rows that are no dev rows"
        raise InputError("no row is left that is not a dev row", where=name, fix=fix)
    return kept


def _mix(pools: Sequence[list[Piece]], settings: Composition, notes: list[str]) -> tuple[list[Piece], list[int]]:
    """Rows of the sources in the ratio of their weights: to the row over all, and to less than one row up to any."""
    weights = [source.weight for source in settings.sources]
    most = math.floor(
        min(len(pool) * settings.repeats / weight for pool, weight in zip(pools, weights, strict=True)) * sum(weights)
        + 1e-9
    )
    total = min(settings.limit or most, most)
    counts = apportion(weights, total)
    while any(count > len(pool) * settings.repeats for count, pool in zip(counts, pools, strict=True)):
        total -= 1  # what is left over by rounding went to a source that has no more
        counts = apportion(weights, total)
    if settings.limit and total < settings.limit:
        scarce = min(range(len(pools)), key=lambda k: len(pools[k]) / weights[k])
        name = settings.sources[scarce].name
        notes.append(f"{total} rows, not {settings.limit}: {name} has no more at repeats {settings.repeats}")
    for source, pool, count in zip(settings.sources, pools, counts, strict=True):
        repeated = f", {count - len(pool)} of them once more" if count > len(pool) else ""
        notes.append(
            f"{source.name}: {count} of {len(pool)} rows, {count / max(1, total):.1%} of the mixture{repeated}"
        )
    draws = [_draw(pool, settings) for pool in pools]
    if not total:
        raise InputError("the mixture has no row", where="compose", fix="give sources with more rows, or other weights")
    order = islice(in_proportion(counts), total)
    return [next(draws[k]) for k in order], counts


def _draw(pool: Sequence[Piece], settings: Composition) -> Iterator[Piece]:
    """The rows of a source by the hash of their content, its classes in proportion in every part; again and again."""
    names = classes_of(pool, settings.balance.by) if settings.balance else [None] * len(pool)
    groups: dict[str | None, list[int]] = {}
    order = sorted(range(len(pool)), key=lambda k: (sha256_text(f"{settings.seed}/{pool[k].example.content_id}"), k))
    for place in order:
        groups.setdefault(names[place], []).append(place)
    turns = [iter(places) for places in groups.values()]
    once = [next(turns[k]) for k in islice(in_proportion([len(places) for places in groups.values()]), len(pool))]
    for number in range(1, settings.repeats + 1):
        for place in once:
            yield pool[place] if number == 1 else pool[place].marked(repeat=number)


def _in_order(rows: list[Piece], curriculum: str, seed: int, notes: list[str]) -> list[Piece]:
    if curriculum == "none":
        return rows
    examples = [row.example for row in rows]
    if curriculum == LENGTH:
        difficulty: Sequence[float | str] = lengths(examples)
    elif curriculum.startswith(COLUMN):
        difficulty, missing = column(examples, curriculum.removeprefix(COLUMN))
        if missing:
            notes.append(f"curriculum: {missing} rows have no such column and come last")
    else:
        fix = "none, length or column:NAME"
        raise InputError(f"unknown curriculum '{curriculum}'", where="key curriculum", fix=fix)
    places = {id(example): place for place, example in enumerate(examples)}
    return [rows[places[id(example)]] for example in easy_first(examples, difficulty, seed)]
