"""Measures `nacre data clean` on what build.py made: speed, memory, what is left, what is found where nothing is.

    python benchmarks/data/clean.py --data FOLDER [--runs 5] [--ordinary FILE ...] [--out result.json]

Speed is records a CPU second of one process (user and system, this process alone, imports and the making of the chain
counted apart), smallest and median of several runs, each in a fresh process. Chains: `default` is what runs when nobody
names steps; `cleaners` is every step but those that compare a record with other records by likeness; `all` is every
step but near duplicates; `near` is near duplicates alone. Memory is the largest resident set, at a tenth of the rows,
all of them, and four times as many (the same file over and over, without the step that would drop the copies).

What is left: every planted value is looked for in the record it was planted in. False alarms: what pii and secrets find
in records in which nothing was planted, and in the --ordinary files, names and addresses apart.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from nacre.data.clean.chain import choose
from nacre.data.cleaning import clean_files

CHARACTERS = ["html", "control", "unicode", "tokens", "dates", "glossary", "secrets", "pii", "dialogue", "repetition"]
CHAINS = {
    "default": ["default"],
    "cleaners": [*CHARACTERS, "duplicates"],
    "all": [*CHARACTERS, "leaks", "duplicates"],
    "near": ["near"],
    "characters": CHARACTERS,
}


def once(rows: Path, chain: str, folder: Path) -> dict[str, Any]:
    """One run in this process."""
    config = folder / "clean.yaml"
    started = time.process_time()
    steps = choose(CHAINS[chain], config)
    report = clean_files([rows], folder / f"{chain}.out.jsonl", steps)
    cpu_s = time.process_time() - started
    # not ru_maxrss, which counts what the parent held when it started this process
    status = Path("/proc/self/status").read_text()
    peak_mb = int(status.split("VmHWM:")[1].split()[0]) / 1024
    found = {
        step.name: {"records": step.records, "dropped": step.dropped, "found": step.found} for step in report.steps
    }
    return {"cpu_s": cpu_s, "rows": report.rows, "kept": report.kept, "peak_mb": peak_mb, "steps": found}


def fresh(rows: Path, chain: str, folder: Path) -> dict[str, Any]:
    """One run in a process of its own."""
    words = [sys.executable, __file__, "--data", str(folder), "--once", chain, str(rows)]
    found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return found


def speed(folder: Path, chain: str, runs: int) -> dict[str, Any]:
    made = [fresh(folder / "rows.jsonl", chain, folder) for _ in range(runs)]
    seconds = [run["cpu_s"] for run in made]
    rows = made[0]["rows"]
    return {
        "cpu_s_min": min(seconds),
        "cpu_s_median": statistics.median(seconds),
        "records_per_cpu_s_best": rows / min(seconds),
        "records_per_cpu_s_median": rows / statistics.median(seconds),
        "peak_mb": max(run["peak_mb"] for run in made),
        "kept": made[0]["kept"],
        "steps": made[0]["steps"],
    }


def memory(folder: Path) -> dict[str, float]:
    """Peak megabytes by the number of rows."""
    rows = folder / "rows.jsonl"
    with rows.open("rb") as file:
        text = file.readlines()
    found = {}
    for share in (0.1, 1, 4):
        part = folder / "part.jsonl"
        with part.open("wb") as file:
            for _ in range(max(1, int(share))):
                file.writelines(islice(text, int(len(text) * min(share, 1))))
        for chain in ("characters", "all"):
            run = fresh(part, chain, folder)
            found[f"{chain}, {run['rows']} rows"] = run["peak_mb"]
        part.unlink()
    return found


def left(folder: Path) -> dict[str, Any]:
    """What of the planted is still there, after the chain `cleaners`, and after `near`."""
    truth = {known["id"]: known for known in map(json.loads, (folder / "truth.jsonl").open())}
    clean = {row["id"]: row for row in map(json.loads, (folder / "cleaners.out.jsonl").open(encoding="utf-8"))}
    planted: Counter[str] = Counter()
    still: Counter[str] = Counter()
    for number, known in truth.items():
        if number not in clean:
            continue
        text = json.dumps(clean[number], ensure_ascii=False)
        values = [*known.get("pii", []), *(["SECRET", value] for value in known.get("secrets", []))]
        for kind, value in values:
            planted[kind] += 1
            still[kind] += value in text
        if "date" in known:
            planted["date"] += 1
            still["date"] += known["date"][1] not in text
        if "html" in known:
            planted["html"] += 1
            still["html"] += any(mark in text for mark in ("<p>", "<div", "<br", "<h2>", "<li>", "&nbsp;", "<script"))
    found: dict[str, Any] = {"planted": dict(planted), "still there": dict(still)}
    kept = {json.loads(line)["id"] for line in (folder / "near.out.jsonl").open(encoding="utf-8")}
    pairs = [(number, known["jaccard"]) for number, known in truth.items() if "near" in known]
    found["near"] = {
        "pairs at 0.8 or above": sum(likeness >= 0.8 for _, likeness in pairs),
        "of them dropped": sum(likeness >= 0.8 and number not in kept for number, likeness in pairs),
        "pairs below 0.6": sum(likeness < 0.6 for _, likeness in pairs),
        "of them dropped wrongly": sum(likeness < 0.6 and number not in kept for number, likeness in pairs),
        "dropped without being planted": sum(number not in truth for number in range(len(kept)) if number not in kept),
    }
    copies = [number for number, known in truth.items() if "same_as" in known]
    found["exact"] = {"copies": len(copies), "dropped": sum(number not in clean for number in copies)}
    return found


def false_alarms(folder: Path, ordinary: list[Path]) -> dict[str, Any]:
    """What pii and secrets find in text in which nothing was planted."""
    planted = {known["id"] for known in map(json.loads, (folder / "truth.jsonl").open())}
    untouched = folder / "untouched.jsonl"
    with (folder / "rows.jsonl").open(encoding="utf-8") as rows, untouched.open("w", encoding="utf-8") as file:
        file.writelines(row for number, row in enumerate(rows) if number not in planted)
    found = {}
    for path in (untouched, *ordinary):
        report = clean_files([path], folder / "alarms.out.jsonl", choose(["pii", "secrets"]))
        kinds = Counter[str]()
        for step in report.steps:
            kinds.update(step.found)
        apart = {kind: kinds.pop(kind, 0) for kind in ("NAME", "ADDRESS")}
        found[path.name] = {"rows": report.rows, "names and addresses": apart, "all others": dict(kinds)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ordinary", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    (given.data / "clean.yaml").write_text("glossary: {file: terms500.tsv}\nleaks: {dev: [dev.jsonl]}\n")
    if given.once:
        print(json.dumps(once(Path(given.once[1]), given.once[0], given.data)))
        return
    result = {
        "speed": {chain: speed(given.data, chain, given.runs) for chain in ("default", "cleaners", "all", "near")},
        "left": left(given.data),
        "false alarms": false_alarms(given.data, given.ordinary),
        "peak megabytes": memory(given.data),
    }
    for chain, figures in result["speed"].items():
        best, median = figures["records_per_cpu_s_best"], figures["records_per_cpu_s_median"]
        print(f"{chain:10} {best:8.0f} records/CPU-s (median {median:.0f}), peak {figures['peak_mb']:.0f} MB")
    print(json.dumps({name: value for name, value in result.items() if name != "speed"}, ensure_ascii=False, indent=1))
    if given.out:
        given.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
