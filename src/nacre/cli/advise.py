"""`nacre advise`: which model, tuner, precision, batch and length fit."""

import inspect
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from nacre.cli.common import HERE, JsonOption, WorkspaceOption, console, print_json, verb_app

if TYPE_CHECKING:
    from nacre.data.report.records import Said
    from nacre.train.advise.choose import Advice
    from nacre.train.advise.families import Base
    from nacre.train.advise.hardware import Hardware
    from nacre.train.advise.plans import Plan

app = verb_app()

WORDS = {
    "for": ("for", "任务"),
    "rows": ("rows", "行"),
    "tokens": ("tokens hold 95 % of them", "个词元可容纳其中 95%"),
    "fits": ("what fits, the best first", "可用方案（从优到次）"),
    "model": ("model", "模型"),
    "tune": ("tuning", "微调方式"),
    "precision": ("type", "精度"),
    "batch": ("batch", "批量"),
    "length": ("length", "长度"),
    "memory": ("memory", "内存"),
    "time": ("time", "时间"),
    "nothing": ("nothing fits", "没有可用方案"),
    "not": ("what does not fit, and the cheapest change", "放不下的模型，以及代价最小的改动"),
    "elsewhere": ("the same job elsewhere", "同一任务在其他机器上"),
    "machine": ("machine", "机器"),
    "notfit": ("does not fit", "放不下"),
    "paste": ("nacre.yaml", "nacre.yaml"),
    "sure": ("how sure", "可信度"),
}


class Language(StrEnum):
    """Of what is printed."""

    en = "en"
    zh = "zh"


class Asked(NamedTuple):
    """What `nacre advise` is asked: an option each, as Typer reads them."""

    task: Annotated[
        str | None,
        typer.Option(help="classification, qa, generation, chat or domain", show_default="what the rows look like"),
    ] = None
    rows: Annotated[
        str | None, typer.Option(help="a data file, a folder, or a number of rows", show_default="1000 are assumed")
    ] = None
    model: Annotated[str | None, typer.Option(help="advise on this model only: a folder, or a name of the table")] = (
        None
    )
    gpus: Annotated[
        str | None, typer.Option(help="cards by memory in GB: 24, 1x24, 4x80; or cpu", show_default="what is here")
    ] = None
    memory: Annotated[
        float | None, typer.Option(min=0.5, help="GB of main memory to use on a CPU", show_default="what is free")
    ] = None
    language: Annotated[Language | None, typer.Option(help="of the rows", show_default="what they look like")] = None
    families: Annotated[
        Path | None, typer.Option(help="a table of models to add", show_default="families.json of the workspace")
    ] = None
    workspace: WorkspaceOption = HERE
    lang: Annotated[Language, typer.Option(help="of what is printed")] = Language.en
    as_json: JsonOption = False


@app.command()
def advise(**given: Any) -> None:
    """Say which base model, tuning, precision, batch and length fit the task, the rows and the hardware.

    Memory and time are estimated; nothing is loaded or fetched. Exit code 1 where nothing fits.
    """
    from nacre.train.advise.choose import advise as find
    from nacre.train.advise.families import OWN, known
    from nacre.train.advise.workload import workload
    from nacre.train.shape import Dimensions

    asked = Asked(**given)
    own = [path for path in (asked.workspace / OWN,) if path.is_file()]
    own += [asked.families] if asked.families else []
    bases = _bases(asked.model, known(own))
    start = bases[0].start
    local = None if isinstance(start, Dimensions) else start
    work = workload(asked.rows, task=asked.task, language=asked.language, model=local)
    found = find(bases, work, _hardware(asked))
    if asked.as_json:
        print_json(found.as_json())
    else:
        _show(found, asked.lang)
    if not found.choices:
        raise typer.Exit(1)


_read_by_typer: Any = advise
_read_by_typer.__signature__ = inspect.signature(Asked)


def _bases(model: str | None, table: "list[Base]") -> "list[Base]":
    from nacre.base.errors import unknown
    from nacre.train.advise.families import base_at

    if model is None:
        return table
    if Path(model).is_dir():
        return [base_at(Path(model))]
    named = [base for base in table if model in (base.name, base.name.rpartition("/")[2])]
    if not named:
        raise unknown("model", model, [base.name for base in table], where="--model")
    return named[:1]


def _hardware(asked: Asked) -> "Hardware":
    from nacre.base.errors import InputError
    from nacre.train.advise.hardware import cards, here, processor

    if asked.gpus is None:
        return here(asked.memory)
    if asked.gpus.strip().lower() == "cpu":
        return processor(asked.memory)
    if asked.memory is not None:
        fix = "name the cards' memory in --gpus, e.g. --gpus 1x24"
        raise InputError("--memory is main memory, where a CPU trains", where=f"--gpus {asked.gpus}", fix=fix)
    return cards(asked.gpus)


def _show(found: "Advice", lang: Language) -> None:
    def word(key: str) -> str:
        return WORDS[key][lang is Language.zh]

    def said(one: "Said") -> str:
        return one.zh if lang is Language.zh else one.en

    work = found.work
    console.print(
        f"{word('for')}: {work.task}, {work.rows:,} {word('rows')}, {work.covering:,} {word('tokens')}; "
        f"{said(found.hardware.name)}",
        markup=False,
    )
    if found.choices:
        console.print(_choices(found.choices, word))
    else:
        console.print(Text(word("nothing"), style="bold red"))
    console.print(f"{word('sure')}: {said(found.sure)}", markup=False)
    if found.refused:
        console.print(Text(f"\n{word('not')}", style="bold"))
        for one in found.refused:
            console.print(f"  {one.name}: {said(one.why)}; {said(one.change)}", markup=False)
    if found.elsewhere:
        console.print(_elsewhere(found.elsewhere, word, said))
    if found.choices:
        console.print(Text(f"\n{word('paste')}", style="bold"))
        console.print(found.choices[0].yaml, markup=False)
    for note in found.notes:
        console.print(f"- {said(note)}", markup=False)


def _choices(plans: "tuple[Plan, ...]", word: Any) -> Table:
    from nacre.train.advise.plans import tuner_told
    from nacre.train.estimate import size, span

    table = Table(title=word("fits"), title_justify="left")
    table.add_column(word("model"), overflow="fold")
    for key in ("tune", "precision"):
        table.add_column(word(key))
    for key in ("batch", "length", "memory", "time"):
        table.add_column(word(key), justify="right")
    for one in plans:
        train = one.recipe.train
        batch = f"{one.micro_batch}x{train.accumulation}" + (f"x{train.processes}" if train.processes > 1 else "")
        tune = tuner_told(one.recipe.tune) + ("\n+ checkpointing" if train.gradient_checkpointing else "")
        tune += f"\n+ {train.sharding}" if train.sharding != "none" else ""
        memory, time = size(one.estimate.memory_bytes), span(one.estimate.seconds)
        table.add_row(Text(one.base.name), tune, train.precision, batch, str(train.max_length), memory, time)
    return table


def _elsewhere(plans: "tuple[Plan, ...]", word: Any, said: Any) -> Table:
    from nacre.train.advise.plans import tuner_told
    from nacre.train.estimate import size, span

    table = Table(title=f"{word('elsewhere')}: {plans[0].base.name}", title_justify="left")
    for key in ("machine", "tune", "batch", "memory", "time"):
        table.add_column(word(key), justify="right" if key in ("memory", "time") else "left")
    for one in plans:
        train = one.recipe.train
        tune = tuner_told(one.recipe.tune) + (" + checkpointing" if train.gradient_checkpointing else "")
        tune += f" + {train.sharding}" if train.sharding != "none" else ""
        batch = f"{one.micro_batch}x{train.accumulation}" + (f"x{train.processes}" if train.processes > 1 else "")
        time = span(one.estimate.seconds) if one.fits else word("notfit")
        table.add_row(said(one.hardware.name), tune, batch, size(one.estimate.memory_bytes), time)
    return table
