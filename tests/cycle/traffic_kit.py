"""A workspace with versions that were never trained, a clock that can be turned, and users who ask."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nacre.cycle.releases import rollout
from nacre.cycle.workspace import Workspace
from nacre.records import Environment, Feedback, Interaction, Recipe, RowsFile, Snapshot, Verdict
from nacre.records.release import Rollout
from nacre.registry import conversations

MODULES = (
    "nacre.registry.releases",
    "nacre.registry.events",
    "nacre.cycle.releases.rollout",
    "nacre.cycle.releases.schedule",
    "nacre.cycle.releases.watch",
)


QUICK = {"shadow_requests": 100, "min_requests": 50, "steps": [10, 50, 100]}
STAGES = 4  # the shadow and three steps
BY = {"actor": "test", "why": "so"}


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 5, 1, tzinfo=UTC)

    def now(self) -> str:
        return self.time.isoformat(timespec="milliseconds")

    def wait(self, **span: float) -> None:
        self.time += timedelta(**span)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    for module in MODULES:
        monkeypatch.setattr(f"{module}.now", turned.now)
    salts = count()
    # the same salts each time
    monkeypatch.setattr("nacre.cycle.releases.rollout.secrets.token_hex", lambda _: f"salt {next(salts)}")
    return turned


@pytest.fixture
def space(tmp_path: Path, clock: Clock) -> Iterator[Workspace]:
    """Three versions that the gate passed against version 1, which is champion."""
    with make_space(tmp_path / "space") as made:
        yield made


def make_space(folder: Path, **settings: Any) -> Workspace:
    space = Workspace.init(folder, "base-model", settings)
    for number in (1, 2, 3):
        add_version(space, number)
    space.ledger.promote(1, actor="test", why="start")
    for number in (2, 3):
        space.ledger.put_verdict(number, 1, Verdict(outcome="pass", confidence=0.95, tasks=()))
    return space


def add_version(space: Workspace, number: int, task: str = "skill", parents: tuple[int, ...] = ()) -> None:
    def fill(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(f"weights {number}")

    space.ledger.add_version(
        base="base-model",
        base_sha256="b" * 64,
        kind="full",
        artifact=space.store.publish(fill),
        recipe=Recipe(),
        environment=Environment(python="3.11", packages={}, machine="m", device="cpu"),
        snapshot=Snapshot(task=task, train=RowsFile(sha256="a" * 64, rows=3), dev=None, sources={}),
        tasks=(task,),
        parents=parents,
    )


def with_release(space: Workspace, **release: Any) -> Workspace:
    """The same workspace under other settings of `release`."""
    settings = type(space.settings).model_validate(space.settings.model_dump() | {"release": release})
    changed = replace(space, settings=settings)
    changed.__dict__["ledger"] = space.ledger
    return changed


@dataclass(frozen=True)
class Manner:
    """How a version answers: share of good answers, of errors, of answers broken off, and their typical seconds."""

    good: float = 0.9
    errors: float = 0.005
    aborted: float = 0.05
    seconds: float = 0.8
    broken_off_after: float = 0.8


class Traffic:
    """Users ask; each answer is routed as the active rollout says, rated by some, and stored when it is whole.

    Args:
        misrouted: share of the users who should reach the new version and do not.
        rate: requests a second.
    """

    def __init__(
        self, space: Workspace, clock: Clock, *, new: Manner, seed: int = 0, misrouted: float = 0.0, rate: float = 1.0
    ) -> None:
        self.space, self.clock, self.new, self.misrouted, self.rate = space, clock, new, misrouted, rate
        self.old = Manner()
        self.seed, self.random = seed, np.random.default_rng(seed)
        self.asked = 0
        self.under_way: list[Interaction] = []
        self.opinions: list[Feedback] = []

    def serve(self, number: int) -> None:
        """Let that many ask."""
        rollout = self.space.ledger.releases.active()
        champion = self.space.ledger.slot("champion").version
        added = self.under_way
        for _ in range(number):
            self.clock.wait(seconds=1 / self.rate)
            self.asked += 1
            user = f"user {self.random.integers(10**9)}"
            if rollout is not None and rollout.takes(user) and self.random.random() >= self.misrouted:
                added.append(self.answer(rollout.version, "challenger", user, self.new))
            elif rollout is not None and rollout.state == "shadow":
                shown = self.answer(champion, "champion", user, self.old, judged=True)
                twin = self.answer(rollout.version, "shadow", user, self.new, judged=True)
                added += [shown, twin.changed(twin=shown.id)]
            else:
                added.append(self.answer(champion, "champion", user, self.old))
        self.store(added)

    def finish(self) -> None:
        """Wait until every answer is whole, and half a minute more, so that all of them count."""
        last = max((datetime.fromisoformat(one.time) for one in self.under_way), default=self.clock.time)
        self.clock.time = max(last, self.clock.time) + timedelta(seconds=30)
        self.store(self.under_way)

    def store(self, added: list[Interaction]) -> None:
        """Keep the answers that are whole by now, and what was said of them."""
        present = self.clock.now()
        whole = [one for one in added if one.time <= present]
        self.under_way = [one for one in added if one.time > present]
        self.space.ledger.add_interactions(whole)
        names = {one.id for one in whole}
        said = [one for one in self.opinions if one.interaction in names]
        self.opinions = [one for one in self.opinions if one.interaction not in names]
        with self.space.ledger._database.write() as connection:  # one transaction: hundreds would take their time
            for opinion in said:
                conversations.add_feedback(connection, opinion)

    def answer(self, version: int, arm: str, user: str, manner: Manner, judged: bool = False) -> Interaction:
        """One answer; a judge rates all that are whole, users every second one."""
        chance, name = self.random.random(), f"{arm} {self.asked} of {self.seed}"
        finish = "error" if chance < manner.errors else "stop"
        finish = "aborted" if manner.errors <= chance < manner.errors + manner.aborted else finish
        good, rated = float(self.random.random() < manner.good), self.random.random() < 0.5
        if finish == "stop" and (judged or rated):
            source = "judge" if judged else "user"
            opinion = Feedback(time=self.clock.now(), interaction=name, kind="thumb", value=good, source=source)
            self.opinions.append(opinion)
        typical = manner.broken_off_after if finish == "aborted" else manner.seconds
        latency = float(typical * self.random.lognormal(0, 0.4))
        return Interaction(
            id=name,
            time=(self.clock.time + timedelta(seconds=latency)).isoformat(timespec="milliseconds"),
            version=version,
            arm=arm,
            session=user,
            messages=(),
            answer="a",
            finish=finish,
            latency_s=latency,
        )


def run(space: Workspace, traffic: Traffic, *, most: int, every: int = 100) -> tuple[Rollout, int]:
    """Serve and look until the rollout has ended, or `most` requests; returns it and the requests it took."""
    started = traffic.asked
    identity = space.ledger.releases.active().id
    while space.ledger.releases.active() is not None and traffic.asked - started < most:
        traffic.serve(every)
        rollout.tick(space)
    return space.ledger.releases.get(identity), traffic.asked - started


def standing(space: Workspace) -> dict[str, int]:
    return {name: slot.version for name, slot in space.ledger.slots().items()}
