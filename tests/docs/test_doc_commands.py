"""The documents' commands are run: each page's blocks in order, in a folder as a reader has it, with a tiny model.

What stands in for what a reader has is in `SWAPS` and in `STARTS`; nothing else is changed.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from docs_kit import ROOT, Block, blocks, commands, pages, plain_lines
from nacre.base.config import read_yaml
from workspace_kit import SETTINGS, Outcome, Place, rows, write_increment, write_lines

if TYPE_CHECKING:
    from toy_kit import Toy

SWAPS = {
    "path/to/your-model": "MODEL",
    "Qwen/Qwen2.5-0.5B-Instruct": "MODEL",
    "/models/mine": "MODEL",
    ".venv/bin/": "",  # the environment is on the path
    "source activate": ":",
    "make install": ":",  # it is installed
    "make test": ":",  # these are the tests
    "make demo": "nacre demo",
    "pip install 'nacre[ui]'": ":",
}
PORTS = ("8000", "8001")  # free ones are taken instead
NOT_RUN = {  # why a block may be left out, and how many of each there are at most, both languages together
    "changes the crontab": 2,
    "installs packages": 17,
    "needs Docker": 4,
    "needs Flower": 4,
    "needs Label Studio": 12,
    "needs MLflow": 2,
    "needs PostgreSQL": 2,
    "needs a GPU": 6,
    "needs a GPU and vLLM": 2,
    "needs a Ray cluster": 2,
    "needs a cluster": 4,
    "needs a judging model": 2,
    "needs two champions": 2,
    "needs a larger model": 4,
    "needs a model that sees": 2,
    "needs a terminal": 4,
    "needs gRPC": 2,
    "needs ids that are made up here": 2,
    "needs lm-evaluation-harness": 2,
    "needs root": 2,
    "needs several GPUs": 10,
    "needs the hub": 2,
    "needs users": 16,
    "takes hours": 13,
}
MAY_END = {  # what they found, not that they failed
    "nacre combine": (0, 3, 4),
    "nacre compress": (0, 3, 4),
    "nacre evolve north": (0, 3, 4),
    "nacre evolve south": (0, 3, 4),
    "nacre evolve west": (0, 3, 4),
    "nacre gate": (0, 3, 4),
    "nacre recipe": (0, 3, 4),
    "nacre release tick": (0, 4),
}
ENDLESS = ("nacre serve", "nacre ui", "python src/api_demo.py")
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("NACRE_")} | {
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "200",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


@dataclass(frozen=True)
class Start:
    """What a reader of a page has: a clone, or in it a workspace with two versions, and what `more` lays there."""

    inside: str = "clone"
    more: Callable[[Path], object] = lambda folder: None
    swaps: dict[str, str] = field(default_factory=dict)


def three_datasets(clone: Path) -> None:
    for name, task in (("base", "paint"), ("increment_1", "feed"), ("your_dataset", "place")):
        write_increment(clone / "dataset", name, task, train=40, dev=16)


def their_files(clone: Path) -> None:
    """Settings files for LlamaFactory, with their data."""
    three_datasets(clone)
    their: dict[str, Any] = {"model_name_or_path": "MODEL", "dataset": "base", "finetuning_type": "lora"}
    their |= {"output_dir": "saves/their", "num_train_epochs": 1.0, "cutoff_len": 64, "overwrite_output_dir": True}
    (clone / "their.yaml").write_text(yaml.safe_dump(their))
    (clone / "their.json").write_text(json.dumps(their))


def their_datasets(clone: Path) -> None:
    """A `dataset_info.json` with two data sets."""
    for name, task in (("tickets", "paint"), ("invoices", "feed")):
        write_increment(clone / "dataset", name, task)
    info = {name: {"file_name": name} for name in ("tickets", "invoices")}
    (clone / "dataset" / "dataset_info.json").write_text(json.dumps(info))


def scores(folder: Path) -> None:
    """Files of scores, ours and lm-evaluation-harness's, of two models that answered alike."""
    for name in ("old.jsonl", "new.jsonl", "said-v2.jsonl", "said-v3.jsonl"):
        write_lines(folder / name, [{"id": f"q{one}", "score": one % 2} for one in range(40)])
    for name in ("samples_arc_A.jsonl", "samples_arc_B.jsonl"):
        found = [{"doc_id": one, "doc": {"question": f"q{one}"}, "acc_norm": float(one % 2)} for one in range(40)]
        write_lines(folder / name, found)


def dirt(folder: Path) -> None:
    write_lines(folder / "raw.jsonl", [row | {"output": f"<b>{row['output']}</b>"} for row in rows("paint")[:30]])
    (folder / "terms.tsv").write_text("hay\tdried grass\n")
    (folder / "clean.yaml").write_text("html: {}\nglossary: {file: terms.tsv}\n")


def reports(folder: Path) -> None:
    for name, task in (("old", "paint"), ("new", "feed")):
        write_lines(folder / f"{name}.jsonl", rows(task)[:40])
    (folder / "domains.txt").write_text("feeding: hay, fish\npainting\n")


def mixtures(folder: Path) -> None:
    found = [row | {"user": f"u{one % 9}", "topic": row["output"]} for one, row in enumerate(rows("place")[:90])]
    write_lines(folder / "tickets.json", found)
    for name, task in (("base", "paint"), ("increment_1", "feed")):
        named = [
            row | {"town": "Rome", "user": "anna" if one == 3 else "b"} for one, row in enumerate(rows(task)[80:176])
        ]
        write_lines(folder / "dataset" / name / "train.json", named)


def documents(folder: Path) -> None:
    (folder / "handbook").mkdir()
    (folder / "handbook" / "hours.txt").write_text("The shop opens at nine.\n")


def clinic(folder: Path) -> None:
    """A domain's texts and dialogues, general text, and a few tickets."""
    texts = [{"text": f"{row['instruction']} {row['output']}"} for row in rows("place")]
    write_lines(folder / "general.jsonl", texts[:60])
    write_lines(folder / "dataset" / "questions" / "train.json", texts[60:140])
    write_increment(folder / "dataset", "triage", "place", train=40, dev=16)
    write_increment(folder / "dataset", "tickets", "place", train=60, dev=24)


def three_shares(folder: Path) -> None:
    """Three increments of one task: shares of its train rows, and the same dev rows."""
    found = rows("place")
    for at, name in enumerate(("north", "south", "west"), 1):
        write_lines(folder / "dataset" / name / "train.json", found[40 * at : 40 * (at + 1)])
        write_lines(folder / "dataset" / name / "dev.json", found[:40])


def other_workspace(folder: Path) -> None:
    other = folder.parent / "other"
    (other / "dataset").mkdir(parents=True)
    shutil.copy(folder / "nacre.yaml", other / "nacre.yaml")


STARTS = {
    "README.md": Start(),
    "docs/advise.md": Start("workspace"),
    "docs/articles.md": Start(more=three_datasets),
    "docs/cleaning.md": Start("workspace", dirt),
    "docs/combining.md": Start("workspace", three_shares),
    "docs/compressing.md": Start("workspace"),
    "docs/composing.md": Start("workspace", mixtures, {"--progressive 500": "--progressive 48"}),
    "docs/data-report.md": Start("workspace", reports),
    "docs/evaluation.md": Start("workspace", scores, {"nacre evaluate 3": "nacre evaluate 2"}),
    "docs/exporting.md": Start("workspace"),
    "docs/gate.md": Start("workspace", scores, {"nacre gate 3 4": "nacre gate 1 2"}),
    "docs/knowledge.md": Start("workspace", documents),
    "docs/ledger.md": Start(
        "workspace",
        other_workspace,
        {
            "export 7": "export 1",
            "nacre versions import seven.tar.gz": "cd ../other && nacre versions import ../assistant/seven.tar.gz",
            "versions judge 4": "versions judge 1",
        },
    ),
    "docs/llamafactory.md": Start(more=their_files),
    "docs/matrix.md": Start(
        "workspace", swaps={"matrix 5": "matrix 2", "--joint 7": "--joint 3", "--plain 6": "--plain 2"}
    ),
    "docs/mlflow.md": Start("workspace"),
    "docs/network.md": Start(),
    "docs/quickstart.md": Start(),
    "docs/recipes.md": Start("workspace", clinic),
    "docs/releases.md": Start("workspace"),
    "docs/reports.md": Start("workspace"),
    "docs/serving.md": Start("workspace"),
    "docs/tutorials/few-shot.md": Start(),
    "docs/tutorials/from-llamafactory.md": Start(more=their_datasets),
    "docs/tutorials/one-gpu.md": Start(  # in an adapter a model as small as ours learns nothing that a gate could judge
        swaps={"--model models/base": "--model MODEL", "tune: {name: lora, rank: 16}": "tune: full"}
    ),
    "docs/tutorials/scale-out.md": Start(),
    "docs/tutorials/ten-minutes.md": Start(),
    "docs/ui.md": Start("workspace"),
}


def program(page: str) -> list[Block]:
    """The blocks of a page that do something, but for those that say why they are not run."""
    acting = [block for block in blocks(page) if block.language in ("bash", "python") or _is_file(block)]
    return [block for block in acting if "not run" not in block.marks]


def _is_file(block: Block) -> bool:
    return bool({"file", "add to"} & block.marks.keys())


def essence(page: str) -> list[list[str]]:
    """What a page does, whatever language its comments, and the texts in its Python and its settings, are in."""
    return [
        plain_lines(re.sub(r'"[^"\n]*"', "TEXT", block.text) if block.language != "bash" else block.text)
        for block in program(page)
    ]


def english(page: str) -> str:
    return "README.md" if page == "README.zh-CN.md" else page.replace("docs/zh/", "docs/")


def to_run() -> list[str]:
    """Pages that do something; a Chinese one that does the same as its English one is run as that one."""
    doing = [page for page in pages() if any(block.language != "yaml" for block in program(page))]
    return [page for page in doing if page == english(page) or essence(page) != essence(english(page))]


@dataclass
class Reader:
    """Somebody who follows a page: where they are, which servers they started."""

    cwd: Path
    model: Path
    swaps: dict[str, str]
    ports: dict[str, str]
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        if _is_file(block):
            self.write(block)
            return
        if block.marks.get("needs") == "server" and not self.servers:
            self.serve("nacre serve --api-key my-key")
        if block.language == "python":
            with contextlib.chdir(self.cwd):
                exec(compile(self.swapped(block.text), block.place, "exec"), self.names)
            return
        for line in plain_lines(block.text):
            words = self.swapped(line)
            if words.startswith(ENDLESS):
                self.serve(words)
            else:
                self.run(words, block.place)

    def swapped(self, text: str) -> str:
        for stands, runs in (*self.swaps.items(), *SWAPS.items(), *self.ports.items(), ("MODEL", str(self.model))):
            text = text.replace(stands, runs)
        return text

    def write(self, block: Block) -> None:
        text = self.swapped(block.text)
        if name := block.marks.get("file"):
            (self.cwd / name).write_text(text, encoding="utf-8")
            return
        path = self.cwd / block.marks["add to"]
        self.merge(path, yaml.safe_load(text))

    def merge(self, path: Path, more: dict[str, Any]) -> None:
        known = read_yaml(path)[0]
        for key, value in more.items():
            both = isinstance(value, dict) and isinstance(known.get(key), dict)
            known[key] = known[key] | value if both else value
        path.write_text(yaml.safe_dump(known), encoding="utf-8")

    def run(self, line: str, place: str) -> None:
        """Run one command: nacre's own in this process, which spares the imports; everything else in bash."""
        words = list(commands(line))
        if words == [shlex.split(line)] and words[0][0] == "nacre" and "$" not in line:
            done = Place(self.cwd).nacre(*words[0][1:])
        else:
            done = self.bash(line)
        allowed = next((codes for start, codes in MAY_END.items() if line.startswith(start)), (0,))
        assert done.code in allowed, f"{place}: {line}\n{done.out}{done.err}"
        assert "Traceback" not in done.err, f"{place}: {line}\n{done.err}"
        if line.startswith("nacre init") and str(self.model) in line:
            self.furnish(self.cwd / line.split()[2])

    def bash(self, line: str) -> Outcome:
        """Where the command leaves us is where the next one begins."""
        after = self.cwd / ".after"
        found = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\ntrap 'pwd >{after}' EXIT\n{line}"],
            cwd=self.cwd,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=900,
            stdin=subprocess.DEVNULL,
        )
        self.cwd = Path(after.read_text().strip())
        after.unlink()
        return Outcome(found.returncode, found.stdout, found.stderr)

    def furnish(self, workspace: Path) -> None:
        """What suits a model of 32 dimensions that knows 30 words, and increments of its words."""
        self.merge(workspace / "nacre.yaml", SETTINGS)
        for name, task in (("base", "paint"), ("increment_1", "feed"), ("increment_2", "place")):
            write_increment(workspace / "dataset", name, task)

    def serve(self, line: str) -> None:
        """Start what runs until it is stopped, and wait until it says where it answers."""
        line = line if "--port" in line else f"{line} --port {self.ports[PORTS[0]]}"
        said = self.cwd / f".server-{len(self.servers)}"
        with said.open("w") as out:
            process = subprocess.Popen(
                f"exec {line}",
                shell=True,
                cwd=self.cwd,
                env=ENVIRONMENT,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.servers.append(process)
        deadline = time.monotonic() + 180
        while "http://" not in said.read_text():
            assert process.poll() is None, f"{line}\n{said.read_text()}"
            assert time.monotonic() < deadline, f"{line}\n{said.read_text()}"
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the servers as a user does; each must end well."""
        for each in self.names.values():
            if callable(close := getattr(each, "close", None)) and not isinstance(each, type):
                close()
        for process in self.servers:
            process.send_signal(signal.SIGTERM)
        ends = [process.wait(timeout=60) for process in self.servers]
        assert ends == [0] * len(ends)


def free_ports() -> dict[str, str]:
    found = {}
    with contextlib.ExitStack() as held:
        for stands in PORTS:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found[stands] = str(probe.getsockname()[1])
    return found


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder as a clone looks to somebody who only reads it."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("src", "benchmarks", "tools"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def reader(clone: Path, toy: "Toy", request: pytest.FixtureRequest) -> Iterator[Callable[[str], Reader]]:
    """Who follows a page, in the place where it begins."""
    met: list[Reader] = []

    def begin(page: str) -> Reader:
        start = STARTS[english(page)]
        folder = clone
        if start.inside == "workspace":
            place = request.getfixturevalue("lived_in")
            folder = clone / "assistant"
            place.root.rename(folder)
            write_increment(folder / "dataset", "increment_2", "place")
        start.more(folder)
        model = Path(toy.base.model)
        for path in folder.rglob("*"):
            if path.suffix in (".json", ".yaml") and path.is_file() and path.stat().st_size < 10_000:
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace("MODEL", str(model)), encoding="utf-8")
        met.append(Reader(folder, model, start.swaps, free_ports()))
        return met[-1]

    yield begin
    for one in met:
        one.stop()


@pytest.mark.slow
@pytest.mark.parametrize("page", to_run())
def test_the_commands_of_a_page_run(page: str, reader: Callable[[str], Reader]) -> None:
    found = reader(page)
    for block in program(page):
        found.follow(block)


def test_every_page_with_commands_is_run() -> None:
    assert {english(page) for page in to_run()} == STARTS.keys()


def test_what_is_not_run_says_why_and_does_not_grow() -> None:
    reasons = [block.marks["not run"] for page in pages() for block in blocks(page) if "not run" in block.marks]
    assert set(reasons) <= NOT_RUN.keys(), "a reason must be listed here"
    assert {why: reasons.count(why) for why in NOT_RUN if reasons.count(why) > NOT_RUN[why]} == {}


def test_marks_are_understood() -> None:
    """A mark that is misspelt, or stands above nothing, would be silently passed over."""
    for page in pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        written = re.findall(r"^<!-- (?:not run|needs|file|add to)\b.*$", text, re.MULTILINE)
        assert len(written) == sum(len(block.marks) for block in blocks(page)), page
