"""The demo: the whole cycle on embedded data, driven through the same public calls as the command line."""

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from nacre.base.errors import NacreError
from nacre.cycle.increment.evolve import Evolution, evolve
from nacre.cycle.releases.release import rollback
from nacre.cycle.rows.harvest import harvest
from nacre.cycle.workspace import Workspace
from nacre.demo.base import FOLDER as BASE_MODEL
from nacre.demo.page import show
from nacre.demo.skills import CORRECTION, SKILLS, write_skills
from nacre.evaluate.heat_map import save_png
from nacre.evaluate.matrix import Matrix, average_accuracy, bwt
from nacre.serve.run import LedgerSource, background
from nacre.serve.settings import Serve

# The rate suits a model as small as the demo's with rows as easy; everything else is nacre's default.
SETTINGS = {"train": {"learning_rate": 8e-4, "max_length": 256}, "evaluate": {"max_length": 256}}
SWITCH_S = 30.0  # how long the server may take to follow a promotion; it takes well under a second


@dataclass
class Story:
    """What happened, each part measured in this run."""

    plain: Evolution
    kept: Evolution
    question: str
    answers: dict[str, str] = field(default_factory=dict)
    learned: Evolution | None = None
    after_rollback: int = 0
    switch_s: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    picture: str = ""

    def claims(self) -> dict[str, bool]:
        """What the demo sets out to show, and whether this run showed it."""
        assert self.plain.matrix is not None
        assert self.kept.matrix is not None
        assert self.learned is not None
        plain, kept = bwt(self.plain.matrix).value, bwt(self.kept.matrix).value
        assert plain is not None
        assert kept is not None
        return {
            "plain fine-tuning forgets: BWT below -0.3": plain < -0.3,
            "the gate refuses that version": self.plain.exit_code == 3 and not self.plain.promoted,
            "with the defaults the old skills stay: BWT above -0.05": kept > -0.05,
            "the gate passes it and it is promoted": self.kept.exit_code == 0 and self.kept.promoted,
            "a correction is learned": self.learned.promoted and self.answers["corrected"] == CORRECTION[1],
            "rollback brings the old answer back": self.answers["rolled back"] == self.answers["before"],
        }

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        assert self.learned is not None
        return {
            "claims": self.claims(),
            "plain": self.plain.as_dict(),
            "kept": self.kept.as_dict(),
            "feedback": self.learned.as_dict(),
            "question": self.question,
            "answers": self.answers,
            "champion_after_rollback": self.after_rollback,
            "switch_seconds": self.switch_s,
            "seconds": self.seconds,
            "picture": self.picture,
        }


def run(folder: Path, *, quiet: bool = False) -> Story:
    """Run the demo in `folder`, which is replaced if an earlier demo made it; returns what was measured.

    Raises:
        InputError: `folder` holds something that no demo made.
    """
    torch.set_num_threads(1)  # so small a model gains nothing from more, and its figures repeat
    started = time.perf_counter()
    console = Console(stderr=True, highlight=False, quiet=quiet)
    workspace = _fresh(folder)
    increments = [skill.task for skill in SKILLS]
    console.print(f"[bold]1/4[/] the base skill, then plain fine-tuning through {len(increments) - 1} increments")
    plain = _plain(workspace, increments, console)
    console.print("[bold]2/4[/] the same increments with nacre's defaults")
    kept = _step(console, workspace, increments[1])
    for name in increments[2:]:
        kept = _step(console, workspace, name)
    story = Story(plain=plain, kept=kept, question=CORRECTION[0])
    console.print("[bold]3/4[/] serve it, correct one answer, learn from the correction, take it back")
    _feedback(workspace, story, console)
    console.print("[bold]4/4[/] the picture")
    picture = folder / "forgetting.png"
    assert plain.matrix is not None
    assert kept.matrix is not None
    panels: list[tuple[str, Matrix]] = [("plain fine-tuning", plain.matrix), ("nacre, defaults", kept.matrix)]
    for note in save_png(panels, picture):
        console.print(f"· {note}", markup=False)
    story.picture = str(picture)
    story.seconds = time.perf_counter() - started
    if not quiet:
        show(story)
    return story


def _fresh(folder: Path) -> Workspace:
    """A new workspace with the demo's data; an earlier demo's is removed."""
    if (folder / "nacre.yaml").exists() and (folder / "demo").exists():
        shutil.rmtree(folder)
    workspace = Workspace.init(folder, str(BASE_MODEL), SETTINGS)
    (folder / "demo").write_text("made by nacre demo, which replaces this folder\n", encoding="utf-8")
    write_skills(folder)
    return workspace


def _plain(workspace: Workspace, increments: list[str], console: Console) -> Evolution:
    """Version 1, then every increment on top of the one before, with nothing protected and nothing promoted."""
    result = _step(console, workspace, increments[0])
    unprotected = Workspace.open(workspace.root, {"protect": "none"})
    for name in increments[1:]:
        result = _step(console, unprotected, name, promote="never", parent=result.version.number)
    return result


def _step(console: Console, workspace: Workspace, name: str, **options: Any) -> Evolution:
    result = evolve(workspace, name, **options)
    figure = average_accuracy(result.matrix).value if result.matrix else None
    mean = f", average accuracy {figure:.3f}" if figure is not None else ""
    console.print(
        f"  version {result.version.number}: learned {name} in {result.version.train_seconds:.0f} s{mean}, "
        f"gate: {result.verdict.outcome}{', champion' if result.promoted else ''}",
        markup=False,
    )
    return result


def _feedback(workspace: Workspace, story: Story, console: Console) -> None:
    """Ask, correct, harvest, evolve, ask, roll back, ask."""
    source = LedgerSource(workspace.ledger, workspace.weights, workspace.hidden / "secret")
    with background(source, Serve(port=0)) as url:
        before = _ask(url, story.question)
        story.answers["before"] = before["choices"][0]["message"]["content"]
        _post(f"{url}/v1/feedback", {"response_id": before["id"], "correction": CORRECTION[1]})
        name = harvest(workspace).name
        story.learned = _step(console, workspace, name)
        with _timed(story, "promotion"):
            _wait_for(url, story.learned.version.number if story.learned.promoted else story.kept.version.number)
        story.answers["corrected"] = _ask(url, story.question)["choices"][0]["message"]["content"]
        if story.learned.promoted:
            rollback(workspace, to=None, actor="demo", why="to show that it can be taken back")
        champion = workspace.ledger.slot("champion")
        assert champion is not None
        story.after_rollback = champion.version
        with _timed(story, "rollback"):
            _wait_for(url, champion.version)
        story.answers["rolled back"] = _ask(url, story.question)["choices"][0]["message"]["content"]


@contextmanager
def _timed(story: Story, what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    story.switch_s[what] = time.perf_counter() - started


def _wait_for(url: str, version: int) -> None:
    """Until the server answers with `version`; it follows the ledger by itself."""
    deadline = time.monotonic() + SWITCH_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as response:
            if json.load(response).get("version") == str(version):
                return
        time.sleep(0.02)
    raise NacreError(
        f"the server did not switch to version {version} within {SWITCH_S:.0f} s",
        where=url,
        fix="stop what else keeps this machine busy, and run nacre demo again",
    )


def _ask(url: str, question: str) -> dict[str, Any]:
    body = {
        "model": "nacre",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 24,
    }
    return _post(f"{url}/v1/chat/completions", body)


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return dict(json.load(response))
