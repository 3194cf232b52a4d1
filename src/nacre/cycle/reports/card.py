"""The model card of a version or of an output folder: ``README.md`` as the Hugging Face hub reads it.

An artifact holds no card: it is named by the hash of its files, and scores and verdict are known only after it was
named. So the card is written where weights leave nacre, into a folder that `nacre train` wrote and into an archive.
Beside weights a card changes nothing: fingerprints are taken of weights, configuration and tokenizer alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from nacre.cycle.lineage import ancestry, as_lineage, tasks_of
from nacre.cycle.reports.facts import as_trained
from nacre.cycle.reports.numbers import points, seconds
from nacre.cycle.workspace import Workspace
from nacre.data.report.language import language_of
from nacre.data.rows import rows_path
from nacre.records import Environment, Example, Lineage, Manifest, Recipe, Report, TaskVerdict, Verdict

CARD = "README.md"
_LOOKED_AT = 200  # rows of each increment that language and licence are read off
_COMMON = 0.1  # of those rows: a language that fewer are in is not named
_RELATIONS = {"adapter": "adapter", "full": "finetune", "merged": "merge"}


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        name: what the model is called.
        lineage: every increment, oldest first; `rows` are some of their rows, where they are kept.
        reports: scores of these weights, one a task.
        facts: further lines, name to value.
    """

    name: str
    base: str
    kind: str
    recipe: Recipe
    environment: Environment
    lineage: Sequence[Lineage]
    rows: Sequence[Example] = ()
    reports: Sequence[Report] = ()
    verdict: Verdict | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def model_card(workspace: Workspace, number: int) -> str:
    """The card of a version: how it came to be, what it scored, and what the gate says of it.

    Raises:
        InputError: there is no such version.
    """
    line = ancestry(workspace, number)
    version, lineage = line[-1], as_lineage(tasks_of(line))
    newest = {report.task: report for report in workspace.ledger.reports(weights=version.artifact)}
    energy = version.energy
    facts = {
        "version": f"{number}, made {version.created[:19]} UTC",
        "trained from": ", ".join(f"version {parent}" for parent in version.parents) or "the base model",
        "parameters in this folder": f"{version.parameters:,}",
        "training": seconds(version.train_seconds)
        + (f", {seconds(version.cpu_seconds)} of processor time" if version.cpu_seconds else "")
        + (f", {energy.watt_hours:.3g} Wh ({energy.source})" if energy else ""),
        "artifact": version.artifact,
        "rows that could not be used": f"{len(version.snapshot.dropped):,}",
    }
    return to_text(
        Card(
            name=f"{workspace.root.name}-v{number}",
            base=version.base,
            kind=version.kind,
            recipe=as_trained(workspace, version),
            environment=version.environment,
            lineage=lineage,
            rows=some_rows(workspace.memory, lineage),
            reports=tuple(newest.values()),
            verdict=workspace.ledger.verdict(number),
            facts=facts,
        )
    )


def folder_card(name: str, manifest: Manifest, memory: Path, facts: Mapping[str, str]) -> str:
    """The card of a folder that was trained without a ledger; nobody has scored it when it is written."""
    return to_text(
        Card(
            name=name,
            base=manifest.base,
            kind=manifest.kind,
            recipe=manifest.recipe,
            environment=manifest.environment,
            lineage=manifest.lineage,
            rows=some_rows(memory, manifest.lineage),
            facts=facts,
        )
    )


def some_rows(memory: Path, lineage: Iterable[Lineage]) -> list[Example]:
    """The first rows of each increment, where they are kept and can be read: a card is no place to find damage."""
    found: list[Example] = []
    for path in (rows_path(memory, one.train.sha256) for one in lineage):
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as lines, suppress(ValueError):
                found += [Example.from_json(line) for line in islice(lines, _LOOKED_AT)]
    return found


def to_text(card: Card) -> str:
    """Front matter in the hub's own keys, and the same facts for people."""
    return f"---\n{_front_matter(card)}\n---\n\n{_body(card)}"


def _front_matter(card: Card) -> str:
    licences = {row.origin.licence for row in card.rows if row.origin.licence}
    data = ModelCardData(
        base_model=_public(card.base),
        base_model_relation=_RELATIONS[card.kind],
        language=_languages(card.rows) or None,
        license=licences.pop() if len(licences) == 1 else None,
        library_name="peft" if card.kind == "adapter" else "transformers",
        pipeline_tag="text-classification" if card.recipe.train.stage == "rm" else "text-generation",
        tags=["nacre", "continual-learning", card.recipe.train.stage, card.recipe.tune.name],
        model_name=card.name,
        eval_results=[_result(report) for report in card.reports] or None,
    )
    return str(data.to_yaml()).strip()


def _result(report: Report) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        dataset_type=report.task,  # results of one type would be put under one name
        dataset_name=report.task,
        dataset_split="dev",
        metric_type=report.metric,
        metric_name=report.metric.replace("_", " "),
        metric_value=round(report.mean, 4),
    )


def _public(base: str) -> str:
    """A hub name as it is; of a folder its last name alone, for where it lies is nobody's business."""
    path = Path(base)
    return base if base.count("/") == 1 and not path.is_absolute() and not base.startswith((".", "~")) else path.name


def _languages(rows: Sequence[Example]) -> list[str]:
    counted: Counter[str] = Counter()
    for row in rows:
        counted[language_of(" ".join(turn.content for turn in (*row.prompt, *row.answers)))] += 1
    both = counted["mixed"]
    return [name for name in ("zh", "en") if rows and (counted[name] + both) / len(rows) >= _COMMON]


def _body(card: Card) -> str:
    protections = (
        "auto" if card.recipe.protect == "auto" else ", ".join(str(one["name"]) for one in card.recipe.protect)
    )
    train = card.recipe.train
    facts = {
        "base model": card.base if _public(card.base) == card.base else f"{_public(card.base)} (a local folder)",
        **card.facts,
        "stage and tuner": f"{train.stage}, {card.recipe.tune.name}",
        "learning rate, epochs, batch": f"{train.learning_rate}, {train.epochs}, {train.batch_size}",
        "protections against forgetting": protections or "none",
        "made on": f"{card.environment.device}, Python {card.environment.python}",
    }
    licences = sorted({row.origin.licence for row in card.rows if row.origin.licence})
    parts = [
        f"# {card.name}",
        "Trained by continual learning, one increment on top of the other. How these weights came to be stands in "
        "`nacre.json` beside them, to the last setting.",
        "\n".join(f"- **{name}**: {value}" for name, value in facts.items()),
        "## What it learned, oldest first",
        _table(["increment", "train rows", "dev rows"], [_learned(one) for one in card.lineage]),
        "## Scores on held-out rows",
        _scores(card),
        "## Limits",
        "Scores are of the increments' own dev rows and say nothing of other questions. Languages are told by script: "
        "Latin letters are taken for English. "
        + (
            f"Licences named by rows of the data: {', '.join(licences)}."
            if licences
            else "No row of the data names a licence; the base model's licence holds for what was made of it."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(card: Card) -> str:
    if not card.reports:
        return "Not scored when this was written: `nacre evaluate` does it."
    judged = {task.task: task for task in card.verdict.tasks} if card.verdict else {}
    rows = []
    for report in card.reports:
        task = judged.get(report.task)
        kept = _change(task) if task else "new"
        rows.append(
            [report.task, report.metric, f"{report.mean:.3f}", f"{report.rows:,}", kept if card.verdict else "–"]
        )
    gate = f"\n\nThe gate: **{card.verdict.outcome}**, at {card.verdict.confidence:.0%}." if card.verdict else ""
    return _table(["task", "metric", "score", "rows", "against the version before"], rows) + gate


def _change(task: TaskVerdict) -> str:
    low, high = -task.interval[1], -task.interval[0]
    return f"{points(-task.drop)} [{points(low)}, {points(high)}]: {task.outcome}"


def _learned(one: Lineage) -> list[str]:
    return [one.task, f"{one.train.rows:,}", f"{one.dev.rows:,}" if one.dev else "none"]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
