"""A training that is under way is seen: its log grows while it runs, and is gone from there when it has ended."""

import json
import threading
import urllib.request
from typing import Any, ClassVar

import pytest

from nacre.cycle.increment.evolve import evolve
from nacre.cycle.releases.steering import actions
from nacre.cycle.workspace import Workspace
from nacre.serve.run import LedgerSource, background
from nacre.serve.settings import Serve
from nacre.train.log import read_log, runs_under_way
from nacre.train.protect import PROTECTIONS
from nacre.train.protect.base import Batch, Protection
from workspace_kit import Place, write_increment

LONGEST_S = 300.0


class Turnstile(Protection):
    """Holds the training in a step until it is let through."""

    name = "turnstile"
    at: ClassVar[int] = 7
    reached: ClassVar[threading.Event] = threading.Event()
    opened: ClassVar[threading.Event] = threading.Event()

    def loss(self, model: Any, batch: Batch, hidden_BTD: Any) -> None:
        if batch["step"] == self.at:
            self.reached.set()
            assert self.opened.wait(LONGEST_S)


def test_the_log_of_a_training_is_read_while_it_runs(lived_in: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTECTIONS._entries, "turnstile", "test_live_curves:Turnstile")
    write_increment(lived_in.dataset, "increment_2", "place")
    lived_in.settings(protect=["replay", "turnstile"], train={"logging_steps": 2})
    made: list[Any] = []
    with Workspace.open(lived_in.root) as space:
        _, key = space.ledger.keys.create("boss", ["admin"])
        source = LedgerSource(space.ledger, space.weights, space.hidden / "secret", actions=actions(space))

        def trained() -> None:
            try:
                with Workspace.open(lived_in.root) as own:
                    made.append(evolve(own, "increment_2", promote="never"))
            except BaseException as error:  # noqa: BLE001  # told by the thread that waits
                made.append(error)
                Turnstile.reached.set()

        with background(source, Serve(port=0)) as url:

            def under_way() -> list[dict[str, Any]]:
                asked = urllib.request.Request(f"{url}/admin/trainings", headers={"authorization": f"Bearer {key}"})
                with urllib.request.urlopen(asked, timeout=60) as reply:
                    found: list[dict[str, Any]] = json.load(reply)["trainings"]
                return found

            assert under_way() == []
            thread = threading.Thread(target=trained)
            thread.start()
            try:
                assert Turnstile.reached.wait(LONGEST_S)
                assert not made, made
                (seen,) = under_way()
            finally:
                Turnstile.opened.set()
                thread.join()
            steps = [point["step"] for point in seen["points"] if "loss" in point]
            assert steps == [2, 4, 6]
            last = seen["points"][-1]
            assert (last["current_steps"], last["total_steps"] > 7, last["remaining_time"] != "") == (6, True, True)
            assert all(point["loss"] > 0 for point in seen["points"] if "loss" in point)
            assert under_way() == [], "it has ended"
        (evolution,) = made
        assert not isinstance(evolution, BaseException), evolution
        version = space.ledger.versions()[-1]
        kept = read_log(space.store.root / version.artifact)
        assert [point["step"] for point in kept if "loss" in point][:3] == steps


def test_a_log_that_is_torn_gone_or_has_no_number_is_no_fault(tmp_path: Any) -> None:
    assert runs_under_way(tmp_path / "nothing") == []
    run = tmp_path / "one"
    run.mkdir()
    (run / "trainer_log.jsonl").write_text('{"step": 1, "loss": NaN, "grad_norm": Infinity}\n{"step": 2, "lo')
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "trainer_log.jsonl").symlink_to(tmp_path / "removed")  # as if it ended while this is read
    (told,) = runs_under_way(tmp_path)
    assert told["points"] == [{"step": 1, "loss": None, "grad_norm": None}]
    assert json.dumps(told, allow_nan=False)
