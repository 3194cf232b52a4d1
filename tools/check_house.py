"""The rules of the house that ruff, mypy and import-linter cannot hold: ``python tools/check_house.py [FOLDER]``.

Prints each finding as ``file:line: what``; exit code 1 if there is any. No comment switches a rule off.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 50, 8
BOUNDED = ("src", "tools", "benchmarks")
MAY_DEFER = ("src/nacre/cli/", "src/nacre/base/plugins.py")
READMES = ("README.md", "README.zh-CN.md")
COMMANDS = ("make demo", "make test")
TEXT = {".md", ".py", ".toml", ".sh", ".yaml", ".yml", ""}

_IGNORE = re.compile(r"#\s*(?:type:\s*ignore(?:\[[^\]]*\])?|noqa(?::\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?)(.*)")
_UNFINISHED = re.compile(r"\b(TO[D]O|FI[X]ME|XX[X]|HAC[K])\b")  # written so that it does not find itself
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")
_FENCE = re.compile(r"^\s*(```|~~~)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Finding(NamedTuple):
    """One breach: the file, relative to the checked folder, the 1-based line, and what is wrong."""

    path: str
    line: int
    what: str


class Source(NamedTuple):
    """One Python file: path relative to the checked folder, text, syntax tree."""

    path: str
    text: str
    tree: ast.Module


def check(root: Path) -> list[Finding]:
    """Every finding below `root`, by file and line."""
    found: list[Finding] = []
    bounded: list[Source] = []
    tests: list[str] = []
    for path in _files(root, (*BOUNDED, "tests"), {".py"}):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        found += reasonless_ignores(name, text)
        tests += [name] if name.startswith("tests/") else []
        if not name.startswith(BOUNDED):
            continue
        source = Source(name, text, ast.parse(text, name))
        bounded.append(source)
        for rule in RULES:
            found += rule(source)
    found += import_cycles(bounded)
    found += same_names(tests)
    for path in _texts(root):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        found += unfinished(name, text)
        if path.suffix == ".md":
            found += dead_links(root, path, text)
    found += missing_commands(root)
    return sorted(set(found))


def sizes(source: Source) -> Iterator[Finding]:
    """Files, functions and parameter lists that are too long."""
    lines = source.text.count("\n")
    if lines > MAX_FILE_LINES:
        yield Finding(source.path, lines, f"{lines} lines, {MAX_FILE_LINES} are allowed in a file")
    code = _code_lines(source)
    for node in ast.walk(source.tree):
        if not isinstance(node, Function):
            continue
        body = code & set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if len(body) > MAX_FUNCTION_LINES:
            what = f"{node.name} has {len(body)} lines of code, {MAX_FUNCTION_LINES} are allowed"
            yield Finding(source.path, node.lineno, what)
        names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > MAX_PARAMETERS:
            what = f"{node.name} has {count} parameters, {MAX_PARAMETERS} are allowed"
            yield Finding(source.path, node.lineno, what)


def forbidden(source: Source) -> Iterator[Finding]:
    """Statements that this project does without."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield Finding(source.path, node.lineno, f"global {', '.join(node.names)}: pass the value on instead")
        elif isinstance(node, ast.ExceptHandler):
            caught = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)} if node.type else {""}
            if caught & {"", "Exception", "BaseException"}:
                yield Finding(source.path, node.lineno, "catches everything: name the errors that are expected")
        elif isinstance(node, ast.Name) and node.id == "NotImplementedError":
            yield Finding(source.path, node.lineno, "NotImplementedError: no stubs")


def deferred_imports(source: Source) -> Iterator[Finding]:
    """Imports inside functions, outside the places that start quickly because of them."""
    if source.path.startswith(MAY_DEFER):
        return
    for function in ast.walk(source.tree):
        if not isinstance(function, Function):
            continue
        for node in ast.walk(function):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "attr", getattr(called, "id", ""))
            if isinstance(node, ast.Import | ast.ImportFrom) or name in ("import_module", "__import__"):
                what = "import inside a function: only nacre/cli and the plugin table may"
                yield Finding(source.path, getattr(node, "lineno", function.lineno), what)


RULES: tuple[Callable[[Source], Iterator[Finding]], ...] = (sizes, forbidden, deferred_imports)


def import_cycles(sources: list[Source]) -> list[Finding]:
    """The first cycle among the imports at the top of the files of `src`; import-linter sees only the rooms."""
    modules = {_module(source.path): source for source in sources if source.path.startswith("src/")}
    graph = {name: set(_imported(source.tree, modules)) - {name} for name, source in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return [Finding(modules[cycle[0]].path, 1, f"import cycle: {' → '.join(reversed(cycle))}")]
    return []


def same_names(paths: list[str]) -> Iterator[Finding]:
    """Modules of the tests with one name: they are no packages, so whichever is imported first stands for both."""
    first: dict[str, str] = {}
    for path in paths:
        name = Path(path).name
        if name != "conftest.py" and first.setdefault(name, path) != path:
            yield Finding(path, 1, f"{first[name]} has the same name: tests import each other by it alone")


def reasonless_ignores(path: str, text: str) -> Iterator[Finding]:
    """Comments that silence a checker and do not say why."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        found = _IGNORE.search(token.string) if token.type == tokenize.COMMENT else None
        if found and not re.search(r"\w{3}", found[1]):
            yield Finding(path, token.start[0], f"'{token.string}' gives no reason")


def unfinished(path: str, text: str) -> Iterator[Finding]:
    """Words that mark unfinished work."""
    for number, line in enumerate(text.splitlines(), 1):
        for word in _UNFINISHED.findall(line):
            yield Finding(path, number, f"'{word}': finish it, or leave it out")


def dead_links(root: Path, path: Path, text: str) -> Iterator[Finding]:
    """Links to files that are not there, and to headings that their page does not have."""
    for number, line in _prose(text):
        for target in _LINK.findall(line):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, heading = target.partition("#")
            there = (path.parent / file) if file else path
            name = path.relative_to(root).as_posix()
            if not there.exists():
                yield Finding(name, number, f"link to {target}: there is no such file")
            elif heading and there.suffix == ".md" and heading not in _headings(there.read_text(encoding="utf-8")):
                yield Finding(name, number, f"link to {target}: the page has no such heading")


def missing_commands(root: Path) -> Iterator[Finding]:
    """The first thing a reader needs: the two commands, in either language."""
    for name in READMES:
        text = (root / name).read_text(encoding="utf-8") if (root / name).exists() else ""
        for command in COMMANDS:
            if command not in text:
                yield Finding(name, 1, f"does not name {command}")


def _files(root: Path, folders: tuple[str, ...], suffixes: set[str]) -> list[Path]:
    paths = [path for folder in folders for path in (root / folder).rglob("*") if path.suffix in suffixes]
    skipped = ("__pycache__", ".egg-info")
    return sorted(path for path in paths if path.is_file() and not any(part in path.as_posix() for part in skipped))


def _texts(root: Path) -> list[Path]:
    """Everything that people read: code, documents, settings, scripts."""
    at_top = [path for path in root.iterdir() if path.is_file() and (path.suffix in TEXT and path.name[0] != ".")]
    return sorted(at_top) + _files(root, (*BOUNDED, "tests", "docs", ".ci"), TEXT)


def _code_lines(source: Source) -> set[int]:
    """Line numbers that hold code: no blank lines, no comments, no docstrings."""
    empty = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type not in empty:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(source.tree):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node, clean=False) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def _module(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(tree: ast.Module, known: dict[str, Source]) -> Iterator[str]:
    """Modules of ours that a file imports when it is imported itself."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from [part for part in (name if name in known else node.module,) if part in known]


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines outside code blocks, without `code` in them."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, re.sub(r"`[^`]*`", "", line)


def _headings(text: str) -> set[str]:
    """Anchors of a page's headings, as the usual renderers make them."""
    titles = re.findall(r"^#+\s+(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def main(arguments: list[str]) -> int:
    """Check the folder given, or the project this file belongs to; returns the exit code."""
    findings = check(Path(arguments[0]) if arguments else Path(__file__).resolve().parents[1])
    for finding in findings:
        print(f"{finding.path}:{finding.line}: {finding.what}")
    print(f"{len(findings)} findings" if findings else "the house is in order")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
