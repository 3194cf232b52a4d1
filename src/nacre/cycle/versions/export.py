"""A version for other programs: written, read back, compared with the version, and only then put in its place."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from nacre.base.errors import InputError, NacreError
from nacre.base.files import staged_folder
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.reports.card import CARD, model_card
from nacre.cycle.scores.lm_eval import export_tasks
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.model.export import BOUNDS, Bound, Form, Reader, Source, load_form
from nacre.model.export.check import Compared, answers, compare, refuse
from nacre.model.export.lm_eval import TASKS, LmEval
from nacre.model.load import stored_dtype
from nacre.records import Example, Message, Weights
from nacre.records.manifest import MANIFEST

PROMPTS = 8  # dev rows that a written form is compared on
_NAMED = {"max_new_tokens": "max_tokens"}  # transformers' name of a default, ours
_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")
_ANY = ("Hello.", "What can you do?", "1 2 3 4", "你好。")  # asked where there are no dev rows


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        form: a name of `nacre.model.export.FORMS`.
        precision: in what the weights are written; None for the form's own default.
        tokens: least share of equal greedy tokens; None for what the precision may cost.
        adapter: write the adapter alone.
    """

    form: str
    precision: str | None = None
    tokens: float | None = None
    adapter: bool = False


@dataclass(frozen=True)
class Written:
    """What was written, and how far it is from the version."""

    version: int
    folder: Path
    precision: str
    bytes: int
    compared: Compared
    bound: Bound
    notes: tuple[str, ...]


def export_as(workspace: Workspace, number: int, wish: Wish, folder: Path) -> Written:
    """Write version `number` (0: the base model) for another program.

    Args:
        workspace: whose version it is; its dev rows are what the written form is compared on.
        number: of the version.
        wish: form, precision, bound.
        folder: where to; must not exist, or be empty.

    Raises:
        InputError: unknown form or precision, a folder that holds something, a version that the form cannot hold, a
            library that is missing.
        OutOfBound: what was written does not answer as the version does; nothing is left of it.
        NacreError: the weights were collected, or are damaged; the disk is full.
    """
    form = load_form(wish.form)
    precision = _precision(form, wish)
    if wish.adapter and wish.form != "hf":
        raise InputError(f"{wish.form} takes no adapter alone", where="--adapter", fix="leave it out, or use --to hf")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("the folder exists and holds something", where=str(folder), fix="choose another one")
    weights = _weights(workspace, number)
    source = Source(weights, _name(workspace, number), _defaults(workspace, weights), folder.resolve(), wish.adapter)
    bound = _bound(precision, weights, wish.tokens)
    rows, notes = _prompts(workspace, number)
    with staged_folder(folder) as staging:
        notes += form.write(source, staging, precision)
        compared = compare(_read_back(form, source, staging), answers(weights, rows))
        refuse(compared, bound, wish.form)
        notes += _papers(workspace, number, source, form, staging)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Written(number, folder, precision, size, compared, bound, tuple(notes))


def _read_back(form: Form, source: Source, folder: Path) -> Reader:
    """What was written, loaded.

    Raises:
        NacreError: it cannot be; says in whose words.
    """
    try:
        return form.reader(source, folder)
    except (RuntimeError, OSError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NacreError(
            f"what was written cannot be read back, so nothing was kept: {reason}",
            where=source.weights.folder,
            fix="export it in another form",
        ) from error


def _weights(workspace: Workspace, number: int) -> Weights:
    if not number:
        return workspace.base
    workspace.ledger.verify_version(number)
    return workspace.weights(workspace.ledger.version(number))


def _precision(form: Form, wish: Wish) -> str:
    if wish.precision is None:
        return form.precisions[0]
    if wish.precision not in form.precisions:
        raise InputError(
            f"{wish.form} is not written in {wish.precision}",
            where="--precision",
            fix=f"one of {', '.join(form.precisions)}",
        )
    return wish.precision


def _bound(precision: str, weights: Weights, tokens: float | None) -> Bound:
    name = str(stored_dtype(weights)).removeprefix("torch.") if precision == "stored" else precision
    known = BOUNDS.get(name, BOUNDS["float32"])
    return known if tokens is None else Bound(tokens, max(known.nats, 1 - tokens))


def _name(workspace: Workspace, number: int) -> str:
    """A name that every one of the programs takes."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", workspace.root.name).strip("-.") or "nacre"
    return f"{plain}-v{number}"


def _defaults(workspace: Workspace, weights: Weights) -> dict[str, float]:
    """How answers are drawn where nobody says: the settings' word, else the version's own."""
    found: dict[str, float] = {}
    for folder in (weights.model, weights.folder):
        path = Path(folder) / "generation_config.json"
        if path.is_file():
            given = json.loads(path.read_text(encoding="utf-8"))
            named = {_NAMED.get(name, name): value for name, value in given.items()}
            found |= {name: value for name, value in named.items() if isinstance(value, (int, float))}
    found |= workspace.settings.serve.defaults.model_dump(exclude_none=True)
    return {name: found[name] for name in _DEFAULTS if name in found and not isinstance(found[name], bool)}


def _prompts(workspace: Workspace, number: int) -> tuple[list[Example], list[str]]:
    """Dev rows of every task the version knows, in turns, and a word where there are none."""
    line = ancestry(workspace, number) if number else []
    held = [read_rows(workspace.memory, dev) for _, dev in devs(tasks_of(line))]
    asked = [[row for row in rows if row.prompt] for rows in held]
    found = [rows[place] for place in range(PROMPTS) for rows in asked if place < len(rows)][:PROMPTS]
    if found:
        return found, []
    rows = [Example(prompt=(Message(role="user", content=text),), answers=()) for text in _ANY]
    return rows, ["no dev rows: it was compared on four general prompts"]


def _papers(workspace: Workspace, number: int, source: Source, form: Form, folder: Path) -> list[str]:
    """The model card, the manifest, and for lm-eval the tasks."""
    notes: list[str] = []
    if number:
        (folder / CARD).write_text(model_card(workspace, number), encoding="utf-8")
        manifest = Path(source.weights.folder) / MANIFEST
        if manifest.is_file():
            (folder / MANIFEST).write_bytes(manifest.read_bytes())
    if isinstance(form, LmEval):
        if number and devs(tasks_of(ancestry(workspace, number))):
            notes += export_tasks(workspace, number, folder / TASKS).notes
        else:
            notes.append("no dev rows, so no tasks of its own: name tasks behind ./lm-eval.sh")
        form.command(source, folder)
    return notes
