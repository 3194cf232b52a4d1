"""The parts of the documents that the code itself knows: ``python tools/docs.py [--check] [--root FOLDER]``.

Writes docs/cli.md and docs/configuration.md whole, and the marked parts of other pages. With ``--check`` nothing is
written; exit code 1 when a file is not what would be written.
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import EnumType
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

from nacre.cli import VERBS, app
from nacre.cli.llamafactory import ALIASES, SWITCHES, Arguments
from nacre.cli.llamafactory.check import remarks
from nacre.cycle.settings import WorkspaceSettings
from nacre.evaluate.matrix import Matrix, figures
from nacre.evaluate.metrics import METRICS
from nacre.model.templates import TEMPLATES
from nacre.records import TaskSettings
from nacre.records.release import Step
from nacre.records.schedule import Entry
from nacre.stats.sequential_planning import smallest_drop_sequential
from nacre.train.protect import PROTECTIONS

EXIT_CODES = {
    0: "done; for `evolve`: the gate passed, or there was nothing to do",
    1: "failed: a full disk, a damaged artifact, a taken port, somebody else's promotion in between",
    2: "wrong input: a file, a flag, a key, a name; nothing was changed",
    3: "`evolve`: refused by the gate, the version is kept and not promoted; `gate`: a loss is shown",
    4: "`evolve`: undecided, the version is held as a candidate; `gate`: undecided",
    130: "stopped with Ctrl-C; what was finished is kept",
}
OWN_CODES = {
    "data annotate agree": {3: "people do not agree well enough", 4: "undecided"},
    "data annotate rows": {3: "people do not agree well enough", 4: "undecided"},
    "data check": {1: "rows cannot be used"},
    "demo": {1: "failed, or a point was not shown"},
    "evolve": {3: "refused by the gate", 4: "undecided and held"},
    "gate": {3: "a loss is shown, or a rule is broken", 4: "undecided"},
    "release tick": {3: "it was stopped", 4: "it waits"},
    "schedule run": {1: "something failed", 3: "refused by the gate, or below a target", 4: "undecided"},
    "verify": {1: "something that is kept is damaged"},
}
CLI_HEAD = """# The command line

Made from the code by `make docs`; do not edit.

`nacre VERB --help` says the same as this page. Every verb that reports takes `--json` and then prints one JSON object
on standard output; an error becomes `{"error": {"what": …, "where": …, "fix": …}}`. Progress bars go to standard
error, and only to a terminal.
"""
CONFIGURATION_HEAD = """# nacre.yaml

Made from the code by `make docs`; do not edit.

A workspace's `nacre.yaml` needs one key, `model`. Everything else has a default. An unknown key is refused, with its
line and the nearest known one. A default of `auto` is decided from the model and the data, and said in the notes of
the run.
"""
BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
PLAIN = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Path: "path"}
START, END = "<!-- made by tools/docs.py: {} -->", "<!-- end of what tools/docs.py made -->"


# the command line


def cli_page() -> str:
    """Every verb with its help, arguments, options and exit codes."""
    parts = [CLI_HEAD, "## Exit codes\n", table(("code", "meaning"), ((str(c), t) for c, t in EXIT_CODES.items()))]
    root: Any = get_command(app)
    for name in VERBS:
        command = root.get_command(None, name)
        inner = getattr(command, "commands", None)
        if inner:
            parts.append(f"## nacre {name}\n\n{inspect.cleandoc(command.help)}\n")
            parts += [part for each in inner for part in _verbs(f"{name} {each}", inner[each])]
        else:
            parts.append(_verb(name, command, "##"))
    return "\n".join(parts)


def _verbs(name: str, command: Any) -> Iterator[str]:
    """A word below a verb, and the words below it."""
    yield _verb(name, command, "###")
    for each, inner in getattr(command, "commands", {}).items():
        yield from _verbs(f"{name} {each}", inner)


def _verb(name: str, command: Any, level: str) -> str:
    words = [each for each in command.params if not each.opts[0].startswith("-")]
    options = [each for each in command.params if each.opts[0].startswith("-")]
    usage = [each.name.upper() if each.required else f"[{each.name.upper()}]" for each in words]
    more = ["[ARGUMENTS]"] if command.context_settings.get("ignore_unknown_options") else []
    more += ["WORD"] if hasattr(command, "commands") else []
    line = " ".join(["nacre", name, *usage, *(["[OPTIONS]"] if options else []), *more])
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help))
    codes = {0: "done", 1: "failed", 2: "wrong input"} | OWN_CODES.get(name, {})
    exits = ", ".join(f"{code} {meaning}" for code, meaning in codes.items())
    parts = [f"{level} nacre {name}\n\n```\n{line}\n```\n\n{text}\n"]
    if command.params:
        parts.append(table(("argument or option", "value", "default", "meaning"), map(_option, (*words, *options))))
    return "\n".join([*parts, f"Exit codes: {exits}.\n"])


def _option(option: Any) -> tuple[str, str, str, str]:
    flag = getattr(option, "is_flag", False)
    names = ", ".join(f"`{each}`" for each in option.opts) if option.opts[0].startswith("-") else option.name.upper()
    least = "" if option.min is None else f", ≥ {option.min:g}"
    value = "" if flag else f"{kind(option.type_descriptor.annotation)}{least}"
    if isinstance(option.show_default, str):
        default = option.show_default
    else:
        default = "needed" if option.required else "" if option.default in (None, False) else f"`{option.default}`"
    variable = f"; or the environment variable `{option.envvar}`" if option.envvar else ""
    return names, value, default, f"{option.help or ''}{variable}"


# nacre.yaml


def configuration_page() -> str:
    """Every key of nacre.yaml with its type, default and meaning."""
    rows = (_key(name, field) for name, field in WorkspaceSettings.model_fields.items())
    parts = [CONFIGURATION_HEAD, "## Top level\n", _keys(rows)]
    for name, field in WorkspaceSettings.model_fields.items():
        variants = _settings(field.annotation)
        if name == "protect":
            parts.append(_protections())
        elif len(variants) > 1:
            parts.append(f"## {name}\n\nOne of these, by name, or a mapping with `name` and options.\n")
            parts += [_variant(each) for each in variants]
        elif variants:
            parts.append(_section(f"## {name}", variants[0], name))
            parts += _inside(name, variants[0])
        if name == "evaluate":
            parts.append(_section("### evaluate.tasks.TASK", TaskSettings))
        if name == "release":
            parts.append(_section("### steps of release", Step))
        if name == "schedule":
            parts.append(_section("### entries of schedule", Entry, name))
            parts += _inside(name, Entry)
    return "\n".join([*parts, _everything()])


def _inside(owner: str, model: type[BaseModel]) -> list[str]:
    """A section for each key of a section that holds settings of its own."""
    found = {name: _settings(field.annotation) for name, field in model.model_fields.items()}
    return [_section(f"### {name} of {owner}", inner[0]) for name, inner in found.items() if len(inner) == 1]


def _section(heading: str, model: type[BaseModel], owner: str = "") -> str:
    fields = model.model_fields.items()
    rows = [_key(name, field, owner) for name, field in fields if name != "name" or not _is_tag(field)]
    text = inspect.cleandoc(model.__doc__ or "")
    return f"{heading}\n\n{text}\n\n{_keys(rows) if rows else ''}".rstrip() + "\n"


def _variant(model: type[BaseModel]) -> str:
    return _section(f"### {model.model_fields['name'].default}", model)


def _protections() -> str:
    head = """## protect

`auto`, `none`, or a list of names and of mappings with `name` and options; see [protections](protections.md).

```yaml
protect:
  - replay
  - {name: distill, weight: 0.2, on: [generic, replayed]}
```
"""
    parts = [head]
    for name in PROTECTIONS.names():
        found = PROTECTIONS.load(name)
        rows = [_key(key, field) for key, field in found.Config.model_fields.items()]
        parts.append(f"### {name}\n\n{inspect.cleandoc(found.__doc__)}\n\n{_keys(rows)}")
    return "\n".join(parts)


def _everything() -> str:
    whole = WorkspaceSettings(model="path/to/model").model_dump(mode="json")
    body = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    return f"## Everything with its default\n\n```yaml\n{body}```\n"


def _key(name: str, field: FieldInfo, owner: str = "") -> tuple[str, str, str, str]:
    inner, meaning = _settings(field.annotation), field.description or ""
    if len(inner) == 1:
        meaning = meaning or inspect.cleandoc(inner[0].__doc__ or "").splitlines()[0].rstrip(".")
        meaning += f"; see [{name}](#{name}{f'-of-{owner}' if owner else ''})"
    return f"`{name}`", f"{kind(field.annotation)}{_bounds(field)}", _default(field), meaning


def _keys(rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    return table(("key", "value", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"`{name}`" if (name := getattr(value, "name", None)) and len(_settings(field.annotation)) > 1 else ""
    if value is None:
        return ""
    if isinstance(value, str | Path):
        return f"`{value}`"
    return f"`{json.dumps(value, default=lambda one: one.model_dump(mode='json', exclude_unset=True))}`"


def _bounds(field: FieldInfo) -> str:
    found = [
        f"{sign} {value:g}"
        for key, sign in BOUNDS
        for each in field.metadata
        if (value := getattr(each, key, None)) is not None
    ]
    return f", {', '.join(found)}" if found else ""


def _is_tag(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal


def _settings(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes that a key may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [
        found
        for part in get_args(annotation)
        if get_origin(annotation) in (Union, UnionType)
        for found in _settings(part)
    ]


def kind(annotation: Any) -> str:
    """A type in plain words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if origin is Annotated:
        bounds = [_bounds(each) for each in inner[1:] if isinstance(each, FieldInfo)]  # a validator has none
        return f"{kind(inner[0])}{''.join(bounds)}"
    if origin is Literal:
        return _either([f"`{each}`" for each in inner])
    if origin in (Union, UnionType):
        return _either([kind(each) for each in inner if each is not NoneType])
    if origin in (tuple, list):
        return f"list of {kind(inner[0])}"
    if origin is dict:
        return "mapping" if inner[1] is Any else f"mapping of {kind(inner[0])} to {kind(inner[1])}"
    if isinstance(annotation, EnumType):
        return _either([f"`{value}`" for value in annotation.__members__])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        name = annotation.model_fields["name"].default if "name" in annotation.model_fields else None
        return f"`{name}`" if isinstance(name, str) and _is_tag(annotation.model_fields["name"]) else "mapping"
    raise TypeError(f"no words for {annotation!r}")


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


# parts of other pages


def arguments_part() -> str:
    """LlamaFactory's argument names that are understood."""
    other = {name: alias for alias, name in ALIASES.items()}
    rows = []
    for name, field in Arguments.model_fields.items():
        names = f"`--{name}`" + (f", `--{other[name]}`" if name in other else "")
        value = "switch" if name in SWITCHES else f"{kind(field.annotation)}{_bounds(field)}"
        default = "" if field.default is False else _default(field)
        rows.append((names, value, default, field.description or ""))
    return table(("argument", "value", "default", "meaning here"), rows)


def keys_part() -> str:
    """LlamaFactory's argument names that do nothing here or are refused."""
    rows = ((f"`{name}`", what, why) for name, what, why in remarks())
    return table(("argument", "nacre", "why, and what instead"), rows)


def keys_part_zh() -> str:
    """Every argument name, with what becomes of it, in Chinese."""
    words = {"no effect": "无影响", "refused": "拒绝"}
    done = [(f"`{name}`", "支持") for name in Arguments.model_fields]
    return table(("参数", "nacre"), [*done, *((f"`{name}`", words[what]) for name, what, _ in remarks())])


def templates_part() -> str:
    """The chat templates by name, with a short conversation."""
    rows = []
    for name in TEMPLATES:
        made = TEMPLATES[name]
        ends = " ".join(f"`{text}`" for text in made.stop) or "end of sequence"
        text = made.user.replace("{content}", "QUESTION") + made.assistant.replace("{content}", "ANSWER")
        shown = (made.prefix + text).replace("\n", "⏎").replace("{bos}", "BOS").replace("{eos}", "EOS")
        rows.append((f"`{name}`", f"`{shown}`", ends, made.default_system.strip()))
    return table(("template", "a question and its answer", "what ends an answer", "default system text"), rows)


def metrics_part() -> str:
    """The metrics with their definitions."""
    kinds = {name: METRICS.load(name) for name in METRICS.names()}
    rows = ((f"`{name}`", each.definition, "yes" if each.gate else "no") for name, each in kinds.items())
    return table(("metric", "definition", "may be what the gate reads"), rows)


def figures_part() -> str:
    """The figures read off the accuracy matrix, with their definitions."""
    smallest = Matrix(versions=("v1",), tasks=("task",), cells=((None,),), learned_at=(0,))
    rows = ((each.name, each.definition, each.source) for each in figures(smallest))
    return table(("figure", "definition", "source"), rows)


def rows_part() -> str:
    """The smallest drop that a number of right/wrong rows can show, by the share of rows whose answer changed."""
    shares = (0.0, 0.02, 0.05, 0.1, 0.2)
    rows = [
        (str(count), *(f"{smallest_drop_sequential(count, share, accept=5.0):.3f}" for share in shares))
        for count in (50, 100, 150, 200, 300, 500, 1000, 2000)
    ]
    return table(("dev rows", *(f"{share:.0%} changed" for share in shares)), rows)


def table(head: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|\n" for line in lines)


PAGES: Mapping[str, Callable[[], str]] = {"docs/cli.md": cli_page, "docs/configuration.md": configuration_page}
PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/llamafactory.md": {"arguments": arguments_part, "keys": keys_part, "templates": templates_part},
    "docs/zh/llamafactory.md": {"keys": keys_part_zh},
    "docs/evaluation.md": {"metrics": metrics_part, "figures": figures_part, "rows": rows_part},
}


def wanted(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file that is made, or holds a made part, and the text it should have."""
    for name, page in PAGES.items():
        yield root / name, page()
    for name, parts in PARTS.items():
        text = (root / name).read_text(encoding="utf-8")
        for part, make in parts.items():
            text = _replaced(text, part, make(), name)
        yield root / name, text


def _replaced(text: str, part: str, made: str, name: str) -> str:
    before, start, rest = text.partition(START.format(part))
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{name}: the marks of the part '{part}' are missing: {START.format(part)} … {END}")
    return f"{before}{start}\n\n{made}\n{end}{after}"


def main(arguments: list[str]) -> int:
    """Write, or check, the documents; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/docs.py", description="Write what the documents take from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the project's folder")
    given = parser.parse_args(arguments)
    differing = [
        (path, text)
        for path, text in wanted(given.root)
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in differing:
        name = path.relative_to(given.root)
        if given.check:
            print(f"{name}: not what the code says; run make docs")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{name}: written")
    return 1 if given.check and differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
