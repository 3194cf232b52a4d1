"""The two recipes on real data: a domain of Chinese medical questions, and two hundred rows of news titles.

    python benchmarks/recipes.py --data FOLDER --model FOLDER

FOLDER/TASK/{train,dev}.json hold alpaca rows. Each recipe starts from a version that knows one task already, so that
the gate has something to hold, and is compared with what one would do without it. Every variant is run with several
seeds from the same start; what is written has each run, what is printed the means.

Domain: of medical_triage_zh the questions of some rows are the text, without their answers; other rows are the
dialogues. General text are the questions of other tasks.
"""

import argparse
import itertools
import json
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nacre.cycle.increment.domain import Adapted, Domain, adapt
from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.evolve import evolve
from nacre.cycle.increment.few_shot import FewShot, few_shot
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows, write_rows
from nacre.data.typos import with_typos
from nacre.model.environment import environment

BASE, DOMAIN, FEW = "waimai_zh", "medical_triage_zh", "thucnews_zh"
GENERAL = ("thucnews_zh", "agnews", "amazon", "waimai_zh")
TEXTS, DIALOGUES, GENERAL_ROWS = 1400, 600, 300
LENGTH = 256
TEMPLATE = "请回答：{question}"


def main() -> None:
    given = _arguments()
    found: dict[str, Any] = {
        "environment": environment().model_dump(),
        "model": given.model.name,
        "domain": {},
        "few": {},
    }
    if given.out.exists():  # what is there is not run again
        found |= json.loads(given.out.read_text(encoding="utf-8"))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for seed, (part, ways, run) in itertools.product(range(given.seeds), PARTS):
        for name in given.ways or ways:
            runs = found[part].setdefault(name, []) if name in ways else []
            if name in ways and len(runs) <= seed:
                runs.append(run(given, name, seed))
                given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(table(found)))


def _recipe(space: Workspace, **changes: Any) -> Evolution | Adapted:
    return adapt(space, Domain("questions", "triage", space.root / "general.jsonl", **changes), promote="never")


DOMAINS: dict[str, Callable[[Workspace], Evolution | Adapted]] = {
    "recipe": _recipe,
    "recipe, no new tokens": lambda space: _recipe(space, pays=0),
    "dialogues alone": lambda space: evolve(space, "triage", promote="never"),
}
FEWS: dict[str, Callable[[Workspace], Evolution]] = {
    "recipe": lambda space: few_shot(space, FewShot(FEW), promote="never"),
    "recipe with a template": lambda space: few_shot(space, FewShot(FEW, templates=(TEMPLATE,)), promote="never"),
    "recipe, no typos": lambda space: few_shot(space, FewShot(FEW, typos=0.0), promote="never"),
    "recipe, no early stop": lambda space: few_shot(space, FewShot(FEW, patience=0), promote="never"),
    "evolve as it is": lambda space: evolve(space, FEW, promote="never", rows=200),
}


def _started(given: argparse.Namespace, name: str, seed: int) -> Workspace:
    """A workspace whose champion knows the base task."""
    root = given.work / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    shutil.rmtree(root, ignore_errors=True)
    settings = {"train": {"max_length": LENGTH, "seed": seed}, "evaluate": {"max_length": LENGTH}, "keep": {"tries": 1}}
    space = Workspace.init(root, str(given.model.resolve()), settings)
    _write(space.dataset_dir / BASE, _rows(given, BASE)[: given.base_rows], _rows(given, BASE, "dev")[: given.dev_rows])
    evolve(space, BASE)
    return space


def _domain(given: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """One run of one way to learn the domain."""
    with _started(given, f"domain-{name}", seed) as space:
        rows, dev = _rows(given, DOMAIN), _rows(given, DOMAIN, "dev")
        half = given.dev_rows
        _write(space.dataset_dir / "questions", _texts(rows[:TEXTS]), _texts(dev[half : 2 * half]))
        _write(space.dataset_dir / "triage", rows[TEXTS : TEXTS + DIALOGUES], dev[:half])
        general = [row for task in GENERAL for row in _texts(_rows(given, task)[-GENERAL_ROWS:])]
        (space.root / "general.jsonl").write_text(_lines(general), encoding="utf-8")
        started = time.perf_counter()
        found = DOMAINS[name](space)
        last = found.dialogues if isinstance(found, Adapted) else found
        told = {"seconds": time.perf_counter() - started, "verdict": last.verdict.outcome, "tasks": _scores(last)}
        if isinstance(found, Adapted):
            said = found.as_dict()
            lexicon = said["lexicon"]
            told["lexicon"] = {**lexicon, "added": len(lexicon["added"]), "first": lexicon["added"][:12]}
            told["read"] = said["read"]
            told["text verdict"] = found.text.verdict.outcome
        print(json.dumps({"domain": name, "seed": seed, **told}, ensure_ascii=False), flush=True)
        return told


def _few(given: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """One run of one way to learn from two hundred rows; scored on the dev rows and on the same with mistakes."""
    with _started(given, f"few-{name}", seed) as space:
        _write(space.dataset_dir / FEW, _rows(given, FEW), _rows(given, FEW, "dev")[: given.dev_rows])
        started = time.perf_counter()
        found = FEWS[name](space)
        seconds = time.perf_counter() - started
        dev = found.version.snapshot.dev
        assert dev is not None
        rows = read_rows(space.memory, dev)
        mistyped = with_typos(rows, letters=0.1, share=1.0, seed=7)[0][len(rows) :]
        typed = write_rows(space.memory, mistyped)
        score = Scorer(space).reports(space.weights(found.version), [(f"{FEW} mistyped", typed)])
        told = {
            "seconds": seconds,
            "verdict": found.verdict.outcome,
            "tasks": _scores(found),
            "mistyped": next(iter(score.values())).mean,
            "notes": [note for part in ("few rows", "power") for note in found.notes.get(part, ())],
            "stopped": [note for note in found.notes.get("training", ()) if note.startswith("early stopping: ")],
        }
        print(json.dumps({"few": name, "seed": seed, **told}, ensure_ascii=False), flush=True)
        return told


def _scores(found: Evolution) -> dict[str, dict[str, float]]:
    return {name: {"before": one["before"], "after": one["after"]} for name, one in found.tasks().items()}


def _rows(given: argparse.Namespace, task: str, split: str = "train") -> list[dict[str, str]]:
    lines = (given.data / task / f"{split}.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _texts(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The questions alone, as plain text."""
    return [{"text": row["input"]} for row in rows]


def _lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write(folder: Path, train: list[dict[str, str]], dev: list[dict[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.json").write_text(_lines(train), encoding="utf-8")
    (folder / "dev.json").write_text(_lines(dev), encoding="utf-8")


PARTS = (("domain", DOMAINS, _domain), ("few", FEWS, _few))


def table(found: dict[str, Any]) -> list[str]:
    """Two Markdown tables of means over the seeds."""
    lines = [
        "| way | triage | base task before → after | bits a character, domain | general | gate | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found["domain"].items():
        texts = [_read(runs, text) for text in ("domain", "general")]
        cells = [
            name,
            _spread(runs, "triage"),
            _pair(runs, BASE),
            *texts,
            _gate(runs),
            _mean(runs, "seconds", "{:.0f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"| way | {FEW} | with mistakes | base task before → after | gate | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in found["few"].items():
        mistyped, seconds = _mean(runs, "mistyped", "{:.3f}"), _mean(runs, "seconds", "{:.0f}")
        lines.append(f"| {' | '.join([name, _spread(runs, FEW), mistyped, _pair(runs, BASE), _gate(runs), seconds])} |")
    return lines


def _spread(runs: list[dict[str, Any]], task: str) -> str:
    scores = [run["tasks"][task]["after"] for run in runs]
    return f"{statistics.mean(scores):.3f} ± {statistics.stdev(scores) if len(scores) > 1 else 0:.3f}"


def _pair(runs: list[dict[str, Any]], task: str) -> str:
    sides = [statistics.mean(run["tasks"][task][side] for run in runs) for side in ("before", "after")]
    return f"{sides[0]:.3f} → {sides[1]:.3f}"


def _mean(runs: list[dict[str, Any]], key: str, form: str) -> str:
    return form.format(statistics.mean(run[key] for run in runs))


def _read(runs: list[dict[str, Any]], text: str) -> str:
    if "read" not in runs[0]:
        return "–"
    steps = zip(*([one["bits_per_character"] for one in run["read"][text]] for run in runs), strict=True)
    return " → ".join(f"{statistics.mean(step):.2f}" for step in steps)


def _gate(runs: list[dict[str, Any]]) -> str:
    said = [run["verdict"] for run in runs]
    return ", ".join(f"{said.count(one)} {one}" for one in dict.fromkeys(said))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("outputs/recipes"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recipes.json"))
    parser.add_argument("--seeds", type=int, default=3, help="of each way")
    parser.add_argument("--ways", nargs="+", help="run these only; default: all")
    parser.add_argument("--base-rows", type=int, default=300)
    parser.add_argument("--dev-rows", type=int, default=150)
    return parser.parse_args()


if __name__ == "__main__":
    main()
