"""A workspace whose versions nobody trained, for those who are told of them; and an address that is told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from nacre.cycle.workspace import Workspace
from nacre.records import Decoding, Environment, Recipe, Report, RowsFile, Snapshot, TaskVerdict, Verdict, Version


def make_space(root: Path, **settings: Any) -> Workspace:
    """A workspace with those keys in its nacre.yaml."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "nacre.yaml").write_text(yaml.safe_dump({"model": "base", **settings}), encoding="utf-8")
    return Workspace.open(root)


def add_version(space: Workspace, number: int, *, steps: int = 3, **changes: Any) -> Version:
    """Register a version with a log of `steps` steps beside its weights."""

    def fill(folder: Path) -> None:
        (folder / "model.safetensors").write_text(f"weights {number}")
        log = [
            {"step": one, "loss": 2.0 / one, "learning_rate": 1e-3, "lr": 1e-3, "elapsed_s": one * 0.5, "epoch": 0.1}
            for one in range(1, steps + 1)
        ]
        (folder / "trainer_log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))

    fields: dict[str, Any] = {
        "base": "base",
        "base_sha256": "b" * 64,
        "kind": "full",
        "artifact": space.store.publish(fill),
        "parents": (number - 1,) if number > 1 else (),
        "recipe": Recipe(),
        "environment": Environment(python="3.11", packages={"torch": "2.13.0"}, machine="m", device="cpu"),
        "snapshot": Snapshot(task=f"技能/{number}", train=RowsFile(sha256="a" * 64, rows=3), dev=None, sources={}),
        "tasks": ("paint", f"技能/{number}"),
        "train_seconds": 2.0,
    }
    return space.ledger.add_version(**(fields | changes))


def judge(space: Workspace, number: int, score: float, outcome: str = "pass") -> None:
    """Score the task `paint` and keep a verdict."""
    report = Report(
        weights=space.ledger.version(number).artifact,
        task="paint",
        dev="d" * 64,
        rows=2,
        metric="exact_match",
        why="short answers",
        decoding=Decoding(max_new_tokens=4),
        scores={"exact_match": (score, score)},
        totals={"bleu": 0.5},
        answers=("a", "b"),
    )
    space.ledger.put_report(report)
    held = TaskVerdict(
        task="paint",
        metric="exact_match",
        rows=2,
        before=1.0,
        after=score,
        drop=1.0 - score,
        interval=(0.0, 0.1),
        margin=0.02,
        margin_why="asked for",
        test="t",
        outcome=outcome,
    )
    space.ledger.put_verdict(number, None, Verdict(outcome=outcome, confidence=0.95, tasks=(held,)))


@dataclass
class Address:
    """A web address that keeps what it is sent, and answers with `answers` in turn, then with 200."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [json.loads(body)["id"] for _, body in self.got]


@contextmanager
def listening(port: int = 0) -> Iterator[Address]:
    """An HTTP server of this process."""
    address = Address()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            address.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(address.answers.pop(0) if address.answers else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address.url = f"http://127.0.0.1:{server.server_port}/hook?token=geheim"
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
