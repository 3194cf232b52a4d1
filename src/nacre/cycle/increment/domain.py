"""A domain in two trainings: first its text is read on, with more tokens and general text beside it, then its dialogues
are learned: `nacre recipe domain`.

Each training is an increment and makes a version. The first is judged and held, whatever the gate says: text alone
teaches no answers, and what it cost may come back. The second is judged against the champion on every task that is
kept, and promoted as `nacre.yaml` says. A command that was killed goes on where it was when it is given again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.evolve import evolve, increment_rows
from nacre.cycle.increment.general_text import split_general
from nacre.cycle.increment.settle import in_use
from nacre.cycle.increment.step import Promote
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.reports.report import keep_report_or_say
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.scores.units import bits_per_character
from nacre.cycle.workspace import Workspace
from nacre.data.compose.pieces import text_of
from nacre.data.lexicon import find_terms, read_terms
from nacre.data.rows import read_rows
from nacre.model.wider import PAYS, embedding_names, lexicon_for, sentences
from nacre.records import RowsFile, Snapshot, Version, Weights
from nacre.records.lexicon import Lexicon
from nacre.records.recipe import Recipe
from nacre.records.tune import MOVES_THE_BASE, Full, Lora, QLora, Tune
from nacre.train.protect.auto import Rung
from nacre.train.protect.build import fitting

REPLAYED = 0.25  # of every batch, from tasks that were learned before
TEXT = "pt"  # the stage of the first training


@dataclass(frozen=True)
class Domain:
    """What is asked for.

    Attributes:
        text: the increment of plain text.
        dialogues: the increment of rows with answers.
        general: file of general text; default: data.general.
        lexicon: file of terms, one a line, beside those that are found.
        pays: tokens of the domain's text that a new token must save; 0: no token is added.
        epochs: passes over the text.
        share: of the batches of text, rows of the tasks before left aside, that is general.
    """

    text: str
    dialogues: str
    general: Path | None = None
    lexicon: Path | None = None
    pays: int = PAYS
    epochs: float = 2.0
    share: float = 0.25


class Read(NamedTuple):
    """How well a version reads a text: bits a character, and perplexity per token of its own."""

    bits_per_character: float
    perplexity: float


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        text: the version that has read the domain's text.
        dialogues: the version that has learned its dialogues, too; the gate's word on it is the recipe's.
        lexicon: the terms, and which became tokens; None where the text had been read before.
        read: of the texts `domain` and `general`, none of which was trained on: before, after the text, at the end.
        notes: what was decided, by part.
    """

    text: Evolution
    dialogues: Evolution
    lexicon: Lexicon | None
    read: Mapping[str, tuple[Read, ...]]
    notes: Mapping[str, tuple[str, ...]]

    @property
    def exit_code(self) -> int:
        """That of the last version."""
        return self.dialogues.exit_code

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        lexicon = None
        if self.lexicon is not None:
            found = self.lexicon
            rates = {"domain": found.domain, "general": found.general}
            lexicon = {
                "terms": len(found.terms),
                "added": found.added,
                "pays": found.pays,
                "tokens_per_character": rates,
            }
        read = {name: [one._asdict() for one in found] for name, found in self.read.items()}
        steps = {"text": self.text.as_dict(), "dialogues": self.dialogues.as_dict()}
        notes = {part: list(said) for part, said in self.notes.items()}
        return {**steps, "lexicon": lexicon, "read": read, "notes": notes, "verdict": steps["dialogues"]["verdict"]}


def adapt(
    workspace: Workspace,
    asked: Domain,
    *,
    promote: Promote | None = None,
    actor: str = "recipe domain",
    tell: Callable[[str], None] = lambda _: None,
) -> Adapted:
    """Make the champion (or the base model, where there is none) a model of a domain.

    Args:
        workspace: where it is.
        asked: the texts, and how they are learned.
        promote: make the last version champion when the gate passes it, or never; default: as `nacre.yaml` says.
        actor: who the history says did it.
        tell: is called with each sentence that is worth knowing before a training.

    Raises:
        InputError: a file, an increment or a setting is wrong; nothing was trained of the step it is about.
        NacreError: disk full, a damaged artifact, or another run in this workspace.
    """
    general = split_general(_general_file(workspace, asked), workspace.memory)
    settings = workspace.settings
    data = settings.data.model_copy(update={"general": str(general.replayed)})
    after = workspace.under(settings.model_copy(update={"data": data}))
    champion = workspace.ledger.slot("champion")
    line = ancestry(workspace, champion.version if champion else None)
    start = workspace.weights(line[-1]) if line else workspace.base
    reading, told = _reading(after, asked, line)
    snapshot = increment_rows(reading, asked.text, line, champion)
    increment_rows(after, asked.dialogues, line, champion)  # what is wrong with them is better known before
    known = next((one for one in line if one.snapshot.data_hash == snapshot.data_hash), None)
    lexicon = None
    if known is not None:
        terms = known.recipe.terms
    else:
        lexicon, said = _lexicon(workspace, asked, snapshot, general.texts, start)
        terms, told = lexicon.added, [*told, *said]
        if terms:
            reading, said = _learning_new_rows(reading, start)
            told += said
    notes = {"general": general.notes, "vocabulary": tuple(told)}
    first = evolve(reading, asked.text, promote="never", actor=actor, tell=tell, terms=terms)
    parent = None if in_use(workspace, first.version) else first.version.number
    last = evolve(after, asked.dialogues, promote=promote, parent=parent, actor=actor, tell=tell)
    versions = [_before(workspace, first.version), first.version, last.version]
    read = _read(after, versions, {"domain": snapshot.dev, "general": general.held})
    notes["read"] = tuple(_told(name, found) for name, found in read.items())
    notes["steps"] = (f"version {first.version.number} read the text, version {last.version.number} is the result",)
    for one in (first, last):
        if one.trained:
            keep_report_or_say(workspace, one.version.number, {**one.notes, **notes})
    return Adapted(first, last, lexicon, read, notes)


def _general_file(workspace: Workspace, asked: Domain) -> Path:
    """The file of general text.

    Raises:
        InputError: a step cannot be made of what is asked for.
    """
    settings = workspace.settings
    if asked.text == asked.dialogues:
        fix = "put the text and the dialogues into two increments"
        raise InputError("text and dialogues are learned in different ways", where=asked.text, fix=fix)
    if settings.train.stage != "sft":
        what = f"the recipe chooses the stages itself, and the settings say {settings.train.stage}"
        raise InputError(what, where="train.stage", fix="take the key out of nacre.yaml")
    if asked.general is None and settings.data.general is None:
        fix = "name a file with --general, or in data.general: plain text, or rows of no particular domain"
        what = "learning a domain costs what is general, where no general text is mixed in"
        raise InputError(what, where="nacre recipe domain", fix=fix)
    return asked.general if asked.general is not None else workspace.root / str(settings.data.general)


def _reading(workspace: Workspace, asked: Domain, line: list[Version]) -> tuple[Workspace, list[str]]:
    """The workspace as the text is read in: plain text, so many passes, general text and old rows beside it."""
    settings = workspace.settings
    changed = {"stage": TEXT, "epochs": asked.epochs, "curriculum": "none", "mix": {}, "typos": 0.0, "templates": ()}
    train = settings.train.model_copy(update=changed)
    old = REPLAYED if any(file.rows for task in tasks_of(line).values() for file in task.train) else 0.0
    wanted: list[dict[str, Any]] = [{"name": "general", "share": asked.share * (1 - old)}]
    wanted += [{"name": "replay", "share": old}] if old else []
    wanted += [{"name": "distill", "on": ["replayed"], "weight": 0.3, "cache": 256}]
    rung = fitting((Rung(tuple(wanted), "the text"),), Recipe(tune=settings.tune, train=train))[0]
    notes = [rung.why] if len(rung.protect) < len(wanted) else []
    return workspace.under(settings.model_copy(update={"train": train, "protect": rung.protect})), notes


def _lexicon(
    workspace: Workspace, asked: Domain, snapshot: Snapshot, general: list[str], start: Weights
) -> tuple[Lexicon, list[str]]:
    """The terms of the text and which of them are worth a token; kept in the memory, and what is to be said."""
    given = read_terms(asked.lexicon) if asked.lexicon else []
    texts = [text_of(row) for row in read_rows(workspace.memory, snapshot.train)]
    found = find_terms(texts, general, given)
    if not asked.pays:
        none = tuple(term.changed(why="no token was to be added") for term in found.terms)
        lexicon = Lexicon(terms=none)
        return lexicon, [*found.notes, "vocabulary: no token was to be added"]
    lexicon = lexicon_for(start, found.terms, texts, general, asked.pays)
    path = workspace.memory / "lexicon" / f"{lexicon.digest}.json"
    atomic_write(path, lexicon.model_dump_json(indent=1))
    where = path.relative_to(workspace.root)
    return lexicon, [
        *found.notes,
        *sentences(lexicon),
        f"vocabulary: each term, and why it was left, stands in {where}",
    ]


def _learning_new_rows(workspace: Workspace, start: Weights) -> tuple[Workspace, list[str]]:
    """The workspace with a tuner that trains the embedding, or a sentence that it does not."""
    tune: Tune = workspace.settings.tune
    if isinstance(tune, Full):
        return workspace, []
    fixed = f"vocabulary: {tune.name} does not train the embedding: each new row stays the mean of its pieces"
    if not isinstance(tune, Lora | QLora) or getattr(tune, "init", "") in MOVES_THE_BASE:
        return workspace, [fixed]
    names = tuple(dict.fromkeys((*tune.modules_to_save, *embedding_names(start))))
    wider = tune.model_copy(update={"modules_to_save": names})
    said = f"vocabulary: {' and '.join(names)} train whole, so that the new rows can learn"
    return workspace.under(workspace.settings.model_copy(update={"tune": wider})), [said]


def _before(workspace: Workspace, first: Version) -> Version | None:
    """The version that the text was read by; None for the base model."""
    return workspace.ledger.version(first.parents[0]) if first.parents else None


def _read(
    workspace: Workspace, versions: list[Version | None], texts: Mapping[str, RowsFile | None]
) -> dict[str, tuple[Read, ...]]:
    """How well each version reads each text."""
    scorer = Scorer(workspace)
    found: dict[str, tuple[Read, ...]] = {}
    weights = [workspace.weights(one) if one else workspace.base for one in versions]
    for name, rows in texts.items():
        if rows is None:
            continue
        task, examples = f"held-out {name} text", read_rows(workspace.memory, rows)
        sides = []
        for one in weights:
            report = scorer.reports(one, [(task, rows)])[task]
            bits = bits_per_character(report, examples, scorer.reader(one))
            sides.append(Read(bits, report.totals["perplexity"]))
        found[name] = tuple(sides)
    return found


def _told(name: str, found: tuple[Read, ...]) -> str:
    """One text's figures as a sentence."""
    bits = " → ".join(f"{one.bits_per_character:.3f}" for one in found)
    perplexity = " → ".join(f"{one.perplexity:.1f}" for one in found)
    return f"{name} text: {bits} bits a character (perplexity per token, which other tokens change: {perplexity})"
