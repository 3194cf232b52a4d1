"""The commands and settings in the documents: found, and held against the command line and the settings as they are.

A block may be preceded by comments that a reader of the page does not see:

``<!-- not run: REASON -->``  the block is read and checked, but not run; the reasons are listed in test_doc_commands.py
``<!-- needs: server -->``    the block asks a server; the page has started one, or one is started for it
``<!-- file: NAME -->``       the block is the text of a file, which the commands below it use
``<!-- add to: NAME -->``     the same, for lines that are added to a file
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.exceptions import TyperException
from typer.main import get_command

from nacre.base.config import Settings, parse, read_yaml
from nacre.base.errors import NacreError
from nacre.cli import VERBS, app
from nacre.cli.launch import WORDS
from nacre.cli.llamafactory import read_arguments, to_arguments
from nacre.cycle.settings import WorkspaceSettings
from nacre.data.clean.chain import choose
from nacre.data.compose.mixture import Composition
from nacre.data.compose.synthesize import Endpoint

ROOT = Path(__file__).parents[1]
MARKS = ("not run", "needs", "file", "add to")
STARTS = re.compile(r"\s*```(\w*)\s*$")
MARK = re.compile(rf"<!-- ({'|'.join(MARKS)}): (.+?) -->$")
SPAN = re.compile(r"`(nacre [^`]+)`")
ENDS = {";", "&&", "||", "|", "&", "(", ")", ";;", "|&", "<(", "$("}
SCRIPTS = ("src/train_bash.py", "src/evaluate.py", "src/api_demo.py")
FILES = {"compose.yaml": Composition, "made.yaml": Endpoint}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text, and what the comments above it say."""

    page: str
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page for people, by its path from the root."""
    found = [*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    start, language = None, ""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if start is not None:
            if line.strip() == "```":
                text = "".join(f"{one}\n" for one in lines[start : number - 1])
                found.append(Block(page, start, language, text, marks))
                start, marks = None, {}
        elif fence := STARTS.match(line):
            start, language = number, fence[1]
        elif mark := MARK.match(line):
            marks = {**marks, mark[1]: mark[2]}
        elif line.strip():
            marks = {}
    return found


def plain_lines(text: str) -> list[str]:
    """The commands of a shell text, one a line: comments gone, lines that go on joined, quotes as they are."""
    found, line, quote, index = [], "", "", 0
    while index < len(text):
        letter = text[index]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif text.startswith("\\\n", index):
            index += 2
            continue
        elif letter == "#" and (not line or line[-1].isspace()):
            end = text.find("\n", index)
            index = len(text) if end < 0 else end
            continue
        elif letter == "\n":
            found.append(line)
            letter = line = ""
        line += letter
        index += 1
    return [one.rstrip() for one in (*found, line) if one.strip()]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each single command; settings of variables before it are left out."""
    for line in plain_lines(text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        words: list[str] = []
        tokens = iter([*lexer, ";"])
        for word in tokens:
            if word in (">", ">>", "<", "2>"):
                next(tokens)  # a file
                continue
            if word not in ENDS:
                words.append(word)
                continue
            while words and re.match(r"\w+=", words[0]):
                words = words[1:]
            if words and words != ["$"]:
                yield words
            words = []


def complaint(words: list[str]) -> str:
    """What is wrong with a command: a verb, an option or an argument that is not there. Empty where nothing is."""
    words = ["nacre" if each.endswith("bin/nacre") else each for each in words]
    for place, word in enumerate(words[:-1]):
        if word == "nacre" and (place == 0 or words[place + 1] in VERBS):
            return _of_nacre(words[place + 1 :])
    if words[0].endswith("python") or words[0] in ("python3", "python"):
        return _of_python(words[1:])
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "".join(f"the Makefile has no {each}" for each in words[1:] if each not in targets)
    return ""


def _of_nacre(words: list[str]) -> str:
    if words[0] == "train":
        return _of_train(words[1:])
    command: Any = get_command(app)
    context = command.make_context("nacre", ["versions"], resilient_parsing=True)
    name, rest = "nacre", words
    try:
        while rest and hasattr(command, "get_command"):
            name, rest = rest[0], rest[1:]
            inner = command.get_command(context, name)
            if inner is None:
                return f"nacre {' '.join(words)}: there is no '{name}'"
            command = inner
        if not hasattr(command, "get_command"):
            command.make_context(name, list(rest))
    except (TyperException, NacreError) as error:
        return f"nacre {' '.join(words)}: {error}"
    return ""


def _of_train(words: list[str]) -> str:
    """LlamaFactory's arguments; settings files that are named are not there to be read."""
    kept: list[str] = []
    rest = iter(each for each in words if not each.endswith((".yaml", ".json")) or "=" in each)
    for word in rest:
        if word.startswith("--") and word[2:] in WORDS:
            next(rest, None)
        else:
            kept.append(word)
    given = {"model_name_or_path": "m", "dataset": "d", "output_dir": "o"}
    try:
        found = {key: value for key, value in read_arguments(kept).items() if key != "deepspeed"}
        to_arguments(given | found, "here")
    except NacreError as error:
        return f"nacre train {' '.join(words)}: {error}"
    return ""


def _of_python(words: list[str]) -> str:
    if not words or words[0] in ("-c", "-m"):
        return ""
    script = ROOT / words[0]
    if not script.is_file():
        return f"there is no {words[0]}"
    if words[0] == "src/train_bash.py":
        return _of_train(words[1:])
    text = script.read_text(encoding="utf-8")
    text += "".join(path.read_text(encoding="utf-8") for path in _beside(words[0]))
    asked = [each.partition("=")[0] for each in words[1:] if each.startswith("--")]
    unknown = [each for each in asked if not re.search(rf'(?<!\w)({each}"|{each[2:]}\b)', text)]
    return f"{words[0]} has no {', '.join(unknown)}" if unknown else ""


def _beside(script: str) -> list[Path]:
    """Where the arguments of our scripts stand: theirs are given on to the command line."""
    return sorted((ROOT / "src" / "nacre" / "cli").rglob("*.py")) if script in SCRIPTS else []


def settings_complaint(block: Block, work: Path) -> str:
    """What is wrong with a block of settings, held against what reads them. Empty where nothing is.

    `work` is a folder for the file that the block is made into.
    """
    head = re.match(r"# (\S+\.yaml)\n", block.text)
    name = block.marks.get("file", head[1] if head else "")
    file = work / (name or "nacre.yaml")
    try:
        if "model_name_or_path:" in block.text:
            file.write_text(block.text, encoding="utf-8")
            to_arguments(read_arguments([str(file)]), block.place)
        elif name in FILES or block.page.endswith("cleaning.md"):
            file.write_text(block.text, encoding="utf-8")
            (work / "terms.tsv").write_text("a\tb\n", encoding="utf-8")
            read = choose if block.page.endswith("cleaning.md") else _of_file(FILES[name])
            read(config=file)
        else:
            for part in re.split(r"^(?=\w+:)", block.text, flags=re.MULTILINE):  # a page may show a key twice
                file.write_text(part, encoding="utf-8")
                parse(WorkspaceSettings, {"model": "m"} | read_yaml(file)[0], where=block.place)
    except NacreError as error:
        return f"{block.place}: {error}"
    return ""


def _of_file(kind: type[Settings]) -> Callable[..., object]:
    def read(*, config: Path) -> object:
        return parse(kind, read_yaml(config)[0], where=str(config))

    return read


def json_complaint(block: Block) -> str:
    """A block of JSON must be one value, or one a line; dots that stand for something are allowed."""
    text = re.sub(r":\s*…", ': "…"', block.text)
    try:
        for part in [text] if _is_json(text) else text.splitlines():
            json.loads(part)
    except ValueError as error:
        return f"{block.place}: {error}"
    return ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def spoken(page: str) -> list[tuple[int, str]]:
    """The commands in the running text of a page, with their lines: `nacre …` between backticks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^\s*```.*?^\s*```", lambda found: "\n" * found[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    return [(text[: one.start()].count("\n") + 1, " ".join(one[1].split())) for one in SPAN.finditer(text)]


def spoken_complaint(command: str) -> str:
    """What is wrong with a command in running text: its verbs and the names of its options must be there.

    What stands for something else (`N`, `…`, `KEY=VALUE`) is not looked at, nor is anything behind it.
    """
    words = command.split()[1:]
    found: Any = get_command(app)
    context = found.make_context("nacre", ["versions"], resilient_parsing=True)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name = word.partition("=")[0].rstrip(",.")
            known = {each for option in found.params for each in option.opts}
            if name not in known | {"--help"} and not found.context_settings.get("ignore_unknown_options"):
                return f"{command}: there is no '{name}'"
            takes = next((not getattr(each, "is_flag", False) for each in found.params if name in each.opts), False)
            if takes and "=" not in word and words:
                words.pop(0)
        elif hasattr(found, "get_command") and re.fullmatch(r"[a-z][a-z-]+", word):
            try:
                inner = found.get_command(context, word)
            except NacreError as error:
                return f"{command}: {error}"
            if inner is None:
                return f"{command}: there is no '{word}'"
            found = inner
    return ""
