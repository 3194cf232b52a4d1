"""What the gate promises, played out: false alarms, misses, rows saved, peeking, intervals; small dev sets too.

    python benchmarks/gate.py [--experiments 4000]

Answers are right or wrong unless it says otherwise; `psi` is the share of rows whose score changes, either way.
Prints Markdown tables. Every share has a standard error of at most sqrt(0.25 / experiments).
"""

import argparse
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nacre.gate import TaskPair, judge
from nacre.records import Keep
from nacre.records.gating import Gate
from nacre.stats.sequential import FIRST_LOOK, lower_bound, next_look, simulate, upper_bound
from nacre.stats.sequential_planning import smallest_drop_sequential

MARGIN, ALARM, ACCEPT = 0.02, 20.0, 5.0
STOP_EARLY = Gate().stop_early or 0
FIXED = (1.6449 + 0.8416) ** 2 / MARGIN**2  # times psi: rows of a test with one look, 5 % and 20 %
Draws = NDArray[np.float64]


def changes(count: int, rows: int, psi: float, drop: float, *, seed: int) -> Draws:
    draws = np.random.default_rng(seed).random((count, rows))
    return np.where(draws < (psi + drop) / 2, 1.0, np.where(draws < psi, -1.0, 0.0))


def parts(count: int, rows: int) -> Iterator[tuple[int, int]]:
    """(experiments, seed) of pieces that fit into memory."""
    size = max(1, 4_000_000 // rows)
    for seed, start in enumerate(range(0, count, size)):
        yield min(size, count - start), seed


def scored(used: Draws, rows: int) -> Draws:
    """What `evolve` scores of a task with so many rows, by the rows that its test uses."""
    looks = [FIRST_LOOK if rows > STOP_EARLY else rows]
    while looks[-1] < rows:
        looks.append(next_look(looks[-1], rows))
    return np.array(looks, dtype=float)[np.searchsorted(looks, used)]


def decisions(count: int) -> Iterator[Sequence[str]]:
    yield "psi", "true drop", "rows, one look", "rows used", "saved", "scored", "saved", "alarm", "pass", "undecided"
    for psi in (0.02, 0.05, 0.1, 0.2):
        fixed = round(FIXED * psi)
        for drop in (-0.02, 0.0, 0.01, 0.02, 0.04, 0.08):
            if drop > psi:
                continue
            played = [
                simulate(changes(size, 2 * fixed, psi, drop, seed=seed), MARGIN, alarm=ALARM, accept=ACCEPT)
                for size, seed in parts(count, 2 * fixed)
            ]
            outcome, used = (np.concatenate(each) for each in zip(*played, strict=True))
            shares = [f"{(outcome == name).mean():.1%}" for name in ("fail", "pass", "undecided")]
            seen = scored(used, 2 * fixed)
            yield (
                f"{psi:.2f}",
                f"{drop:+.2f}",
                str(fixed),
                f"{used.mean():.0f}",
                f"{1 - used.mean() / fixed:.0%}",
                f"{seen.mean():.0f}",
                f"{1 - seen.mean() / fixed:.0%}",
                *shares,
            )


def peeking(count: int) -> Iterator[Sequence[str]]:
    yield "looks at an unchanged model, 1,550 rows, psi 0.10", "false alarms"
    plain, sequential = [], []
    for size, seed in parts(count, 1550):
        rows = changes(size, 1550, 0.1, 0.0, seed=seed)
        totals, squares = np.cumsum(rows, -1)[:, 49::50], np.cumsum(rows**2, -1)[:, 49::50]
        beyond = totals / np.sqrt(np.maximum(squares, 1)) > 1.6449
        plain.append(np.stack([beyond[:, -1], beyond.any(-1)]))
        sequential.append(simulate(rows, MARGIN, alarm=ALARM, accept=ACCEPT)[0] == "fail")
    once, often = np.concatenate(plain, -1).mean(-1)
    yield "z test, one look at the end", f"{once:.1%}"
    yield "z test, a look every 50 rows", f"{often:.1%}"
    yield "the gate, a look at every row", f"{np.concatenate(sequential).mean():.1%}"


def small(count: int) -> Iterator[Sequence[str]]:
    yield (
        "dev rows",
        "psi",
        "smallest drop",
        "unchanged: pass",
        "alarm",
        "that drop: pass",
        "alarm",
        "twice: pass",
        "alarm",
    )
    for rows in (50, 80, 150, 300, 600):
        for psi in (0.02, 0.1, 0.2):
            margin = smallest_drop_sequential(rows, psi, accept=ACCEPT)
            cells = [str(rows), f"{psi:.2f}", f"{margin:.3f}"]
            for drop in (0.0, margin, 2 * margin):
                if drop > psi:
                    cells += ["–", "–"]
                    continue
                outcome, _ = simulate(changes(count, rows, psi, drop, seed=1), margin, alarm=ALARM, accept=ACCEPT)
                cells += [f"{(outcome == name).mean():.1%}" for name in ("pass", "fail")]
            yield cells


def smooth(count: int) -> Iterator[Sequence[str]]:
    yield (
        "scores from 0 to 1, half the rows moved by up to",
        "true drop",
        "rows used of 1,500",
        "alarm",
        "pass",
        "undecided",
    )
    random = np.random.default_rng(2)
    for spread in (0.05, 0.2, 0.5):
        for drop in (0.0, MARGIN, 2 * MARGIN):
            outcomes, used = [], []
            for size, _ in parts(count, 1500):
                moved = random.random((size, 1500)) < 0.5
                rows = np.where(moved, 2 * drop + spread * random.uniform(-1, 1, (size, 1500)), 0.0)
                one, took = simulate(rows, MARGIN, alarm=ALARM, accept=ACCEPT)
                outcomes.append(one)
                used.append(took)
            outcome = np.concatenate(outcomes)
            shares = [f"{(outcome == name).mean():.1%}" for name in ("fail", "pass", "undecided")]
            yield f"{spread:.2f}", f"{drop:+.2f}", f"{np.concatenate(used).mean():.0f}", *shares


def intervals(count: int) -> Iterator[Sequence[str]]:
    yield (
        "dev rows",
        "psi",
        "true drop",
        "truth ever outside the 95 % interval, 15 looks",
        "width at the end",
        "width for one look",
    )
    for rows, psi, drop in ((150, 0.0, 0.0), (150, 0.05, 0.05), (150, 0.1, 0.0), (600, 0.1, 0.03), (1500, 0.2, 0.02)):
        outside, widths = 0, []
        for row in changes(count, rows, psi, drop, seed=3):
            bounds = [
                (lower_bound(seen, 0.975, planned=rows), upper_bound(seen, 0.975, planned=rows))
                for seen in (row[: rows * look // 15] for look in range(1, 16))
            ]
            outside += any(not low <= drop <= high for low, high in bounds)
            widths.append(bounds[-1][1] - bounds[-1][0])
        plain = 2 * 1.96 * math.sqrt((psi - drop**2) / rows)
        yield (
            str(rows),
            f"{psi:.2f}",
            f"{drop:+.2f}",
            f"{outside / count:.1%}",
            f"{np.mean(widths):.3f}",
            f"{plain:.3f}",
        )


def ten_tasks(count: int) -> Iterator[Sequence[str]]:
    yield "ten tasks of 1,500 rows, psi 0.10, automatic margins", "pass", "fail", "undecided", "rows used of 15,000"
    random = np.random.default_rng(4)
    for name, lost in (("nothing lost", 0.0), ("five points lost in one", 0.05), ("two points lost in one", 0.02)):
        outcomes, used = [], []
        for _ in range(count):
            pairs = []
            for task in range(10):
                row = changes(1, 1500, 0.1, lost * (task == 0), seed=int(random.integers(2**32)))[0]
                pairs.append(
                    TaskPair(str(task), "exact_match", np.maximum(row, 0).tolist(), np.maximum(-row, 0).tolist())
                )
            found = judge(pairs, Keep())
            outcomes.append(found.outcome)
            used.append(sum(task.rows_used or 0 for task in found.tasks))
        shares = [f"{outcomes.count(outcome) / count:.0%}" for outcome in ("pass", "fail", "undecided")]
        yield name, *shares, f"{np.mean(used):.0f}"


def show(title: str, rows: Iterator[Sequence[str]]) -> None:
    print(f"\n## {title}\n")
    for place, row in enumerate(rows):
        print(f"| {' | '.join(row)} |", flush=True)
        if not place:
            print(f"| {' | '.join('---' for _ in row)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=4000)
    wanted = parser.parse_args().experiments
    show(
        f"Decisions at a margin of two points, at most twice the rows of one look ({wanted} experiments)",
        decisions(wanted),
    )
    show("Peeking", peeking(wanted))
    show("Small dev sets, at the smallest drop that they can show", small(wanted))
    show("Scores that are not right or wrong", smooth(wanted // 4))
    show("Intervals", intervals(wanted // 10))
    show("Ten tasks at once", ten_tasks(wanted // 40))
