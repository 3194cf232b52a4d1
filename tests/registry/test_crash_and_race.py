"""Killed processes and racing ones, on SQLite and on a real PostgreSQL."""

import os
import random
import signal
import statistics
import time
from pathlib import Path

import pytest

from nacre.base.errors import ConflictError, NacreError
from nacre.registry import CHAMPION, events
from process_kit import in_child


def test_four_processes_open_a_fresh_ledger_at_once(shop) -> None:
    start = time.monotonic() + 0.3

    def work() -> None:
        time.sleep(max(0.0, start - time.monotonic()))
        with shop.open() as ledger:
            ledger.record("opened", "test", {"pid": os.getpid()})

    children = [in_child(work) for _ in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    with shop.open() as ledger:
        assert ledger.verify_chain() == 4
        assert {event.detail["pid"] for event in ledger.events()} == set(children)


def test_every_win_of_a_race_is_one_generation(shop, tmp_path: Path) -> None:
    with shop.open() as ledger:
        shop.versions(ledger, 5)
        ledger.promote(5, actor="test", why="start")
        begun = ledger.generation()

    def work(number: int) -> None:
        wins = losses = 0
        until = time.monotonic() + 1.0
        with shop.open() as ledger:
            while time.monotonic() < until:
                champion = ledger.slot(CHAMPION)
                try:
                    target = number if champion.version != number else 5
                    ledger.promote(target, actor=str(number), why="race", expected=champion.generation)
                    wins += 1
                except ConflictError:
                    losses += 1
        (tmp_path / f"wins-{number}").write_text(f"{wins} {losses}")

    children = [in_child(lambda number=number: work(number)) for number in (1, 2, 3, 4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    results = [tuple(map(int, path.read_text().split())) for path in tmp_path.glob("wins-*")]
    wins, losses = map(sum, zip(*results, strict=True))
    assert losses > 0, "nobody ever lost: this was no race"
    with shop.open() as ledger:
        assert ledger.generation() == begun + wins
        assert ledger.verify_chain() == 5 + 1 + wins


@pytest.mark.slow
def test_kill_minus_nine_leaves_whole_moves_only(shop) -> None:
    """Twenty-four kills in a loop of promotions, rollbacks and trials; each finds the ledger consistent."""
    randomly = random.Random(7)
    with shop.open() as ledger:
        shop.versions(ledger, 6)

    def work(started: int) -> None:
        choose = random.Random(os.getpid())
        with shop.open() as ledger:
            ledger.record("started", "child", {})
            moved = False
            while True:
                try:
                    if choose.random() < 0.2:
                        ledger.rollback(actor="child", why="loop")
                    elif choose.random() < 0.2:
                        ledger.place("challenger", choose.randint(1, 6), actor="child", why="loop")
                    else:
                        ledger.promote(choose.randint(1, 6), actor="child", why="loop")
                except NacreError:
                    continue  # champion already, nothing to roll back to: not the point here
                if not moved:
                    os.write(started, b"x")  # on a busy machine the first move may take longer than all that is waited
                moved = True

    generation = 0
    for kills in range(1, 25):
        ready, started = os.pipe()
        child = in_child(lambda started=started: work(started))
        os.close(started)
        assert os.read(ready, 1) == b"x"
        os.close(ready)
        time.sleep(randomly.uniform(0.0, 0.08))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with shop.open() as ledger:
            moves = ledger.verify_chain() - 6 - kills  # checks the chain, the slots, and that they agree
            assert ledger.generation() == moves >= generation
            generation = ledger.generation()
    assert generation >= 24, f"only {generation} moves: the children were killed before they did anything"


def test_the_same_answers_on_either_database(shop) -> None:
    with shop.open() as ledger:
        versions = shop.versions(ledger, 4)
        for number in (1, 2, 3):
            ledger.promote(number, actor="ann", why="好")
        ledger.rollback(actor="ann", why="bad")
        assert {name: slot.version for name, slot in ledger.slots().items()} == {"champion": 2, "previous-1": 1}
        assert ledger.versions() == versions
        assert ledger.generation() == 4
        assert [event.kind for event in ledger.events(2)] == ["promoted", "rolled back"]
        weights = shop.store.path(versions[3].artifact) / "config.json"
        weights.unlink()
        with pytest.raises(NacreError, match=r"config\.json is missing"):
            ledger.promote(4, actor="ann", why="x")
        assert ledger.verify_chain() == 8


@pytest.mark.slow
@pytest.mark.alone
def test_a_move_takes_less_than_fifty_milliseconds(shop, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred promotions and a hundred rollbacks behind a history of 5000 events; reading the weights is apart."""
    weights_mb = 64
    with shop.open() as ledger:
        shop.versions(ledger, 4)
        with ledger._database.write() as connection:
            for _ in range(5000):
                events.append(connection, "noise", "test", {"why": "a long history"})
        took: dict[str, list[float]] = {"promote": [], "rollback": []}
        ledger.promote(4, actor="test", why="start")
        for turn in range(100):
            for name in took:
                begun = time.perf_counter()
                if name == "promote":
                    ledger.promote(1 + turn % 3, actor="test", why="speed", expected=ledger.slot(CHAMPION).generation)
                else:
                    ledger.rollback(actor="test", why="speed")
                took[name].append(1000 * (time.perf_counter() - begun))
        large = ledger.add_version(**shop.fields("w" * (weights_mb << 20))).number
        begun = time.perf_counter()
        ledger.verify_version(large)
        reading_s = time.perf_counter() - begun
        assert ledger.verify_chain() == 4 + 5000 + 1 + 200 + 1
    with capsys.disabled():
        for name, times in took.items():
            p95 = statistics.quantiles(times, n=20)[-1]
            print(
                f"\n{shop.url.split(':')[0]} {name}: median {statistics.median(times):.1f} ms, p95 {p95:.1f} ms", end=""
            )
        print(f"; reading the weights again: {weights_mb / reading_s:.0f} MB/s")
    for name, times in took.items():
        batches = [times[begin : begin + 20] for begin in range(0, 100, 20)]
        assert min(map(statistics.median, batches)) < 50, f"{name} takes more than 50 ms in the quietest fifth"
