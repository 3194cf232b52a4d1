"""How fast training is: nacre beside TRL, transformers' Trainer and LlamaFactory, on the same rows.

    python benchmarks/speed/train.py --case w1 w2 w3 w4 [--llamafactory ENVIRONMENT] [--text FILE] [--out FILE]

Cases: w1 a Llama of 103M parameters with a vocabulary of 151,936, LoRA; w2 few rows and many passes, the top two of 12
blocks trained; w3 distillation from the previous version beside replay alone; w4 a model shaped like Qwen2.5-0.5B.
Models are drawn at random and words are invented, so that nothing is downloaded; `--text` takes a file's words.

Every contestant runs in a process of its own and waits between two optimizer steps. The first step of each warms up and
is not counted; then they take turns, one step each and round after round, so that whatever else the machine does hits
all alike. The rate is so small that the weights stay, so all must report the same loss on the same rows. Figures are
medians over the rounds, with the smallest and the largest; CPU seconds are of all threads of the process, memory is
its peak. Useful floating-point operations leave out padding, positions without a label at the head, and whatever is
computed twice; they are set beside what the same thread reaches in products of bf16 matrices.

LlamaFactory needs an environment of its own. `--make-llamafactory ENVIRONMENT` makes it, for a CPU:

    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install -r benchmarks/speed/llamafactory.txt
    ENVIRONMENT/bin/pip install --no-deps llamafactory==0.9.5

and an empty module `torchaudio`, which 0.9.5 imports for sound and whose wheels want CUDA.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from prepare import CASES, prepare

HERE = Path(__file__).parent
LLAMAFACTORY = "LlamaFactory"
CONTESTANTS = {
    "w1": ("nacre", LLAMAFACTORY, "HF Trainer fp32", "TRL default", "TRL padding-free", "TRL packing", "nacre fp32"),
    "w2": ("nacre", "nacre, trunk cache off", "TRL padding-free fp32", "TRL padding-free", LLAMAFACTORY),
    "w3": ("replay", "replay and distill, teacher asked once", "replay and distill, teacher asked each time"),
    "w4": ("nacre", LLAMAFACTORY, "HF Trainer fp32", "TRL default", "TRL padding-free"),
}
WARM = {"w3": 4}  # steps before the counted ones; w3: until the teacher has said all that it will be asked
PATIENCE_S = 900
SAME_LOSS = 0.01  # largest difference, of the loss: bf16 rounds, and packs weigh rows a little differently
PASSES = 10  # of w2: what its cost is for


@dataclass
class Contestant:
    """A process that trains, and what it said of each step."""

    name: str
    process: subprocess.Popen[str]
    answers: Any
    log: Path
    steps: list[dict[str, float]] = field(default_factory=list)

    def step(self) -> None:
        """Let it make one step."""
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.answers.readline()
        if not line:
            raise SystemExit(f"{self.name} ended; the last lines of {self.log}:\n{tail(self.log)}")
        self.steps.append(json.loads(line))

    def end(self) -> None:
        """Send it home."""
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.answers.close()


def tail(path: Path) -> str:
    """The last lines of a file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:])


def start(name: str, folder: Path, steps: int, threads: int, llamafactory: Path | None) -> Contestant:
    """Start a contestant; it waits before its first step."""
    python = llamafactory / "bin" / "python" if name == LLAMAFACTORY else Path(sys.executable)
    script = ["llamafactory_worker.py"] if name == LLAMAFACTORY else ["contestants.py", name]
    reading, writing = os.pipe()
    log = folder / f"{name.replace(' ', '-').replace(',', '')}.log"
    environment = os.environ | {"TURNS": str(writing), "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE)}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(python), str(HERE / script[0]), *script[1:], str(folder), str(steps)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            text=True,
            env=environment,
            pass_fds=(writing,),
        )
    os.close(writing)
    return Contestant(name, process, os.fdopen(reading), log)


def peak_gflops(dtype: torch.dtype, threads: int) -> float:
    """GFLOP a CPU second in products of two square matrices, the best of a few."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    one, best = torch.ones(2048, 2048, dtype=dtype), 0.0
    for _ in range(6):
        began = time.process_time()
        one @ one
        best = max(best, 2 * 2048**3 / (time.process_time() - began) / 1e9)
    torch.set_num_threads(before)
    return best


def useful_gflop(case: dict[str, Any]) -> float:
    """What a mean step must compute: blocks, causal attention and the head where there is a label, without padding."""
    tokens, labelled = sum(case["tokens"]), sum(case["labelled"])
    squares = sum(length**2 for length in case["tokens"])
    attention = 2 * squares * case["hidden"] * case["layers"]  # both products, one half of the square each
    head = 2 * case["head"] * labelled
    if case["tune"]["name"] == "lora":  # forward, and backward to the states; the adapters themselves are little
        every = 2 * (2 * case["linear"] * tokens + attention + head)
    else:  # the blocks that do not train once, forward; those that do three times
        share = case["tune"]["trainable_layers"] / case["layers"]
        below, above = (1 - share), share
        every = (below + 3 * above) * (2 * case["linear"] * tokens + attention) + 2 * head
    return every / 1e9 / case["steps_per_epoch"]


def race(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All contestants of one case, in turns."""
    case = prepare(name, folder, options.text, options.tiny)
    per_epoch = case["steps_per_epoch"]
    warm = WARM.get(name, per_epoch)
    rounds = max(options.rounds, per_epoch)
    names = [one for one in CONTESTANTS[name] if one != LLAMAFACTORY or options.llamafactory]
    names = [one for one in names if not options.contestants or one in options.contestants]
    before = peak_gflops(torch.bfloat16, options.threads), peak_gflops(torch.float32, options.threads)
    racing = []
    try:
        for one in names:
            racing.append(start(one, folder, warm + rounds, options.threads, options.llamafactory))
        for contestant in racing:
            for _ in range(warm):
                contestant.step()
        for turn in range(rounds):
            for contestant in racing if turn % 2 == 0 else racing[::-1]:
                contestant.step()
    finally:
        for contestant in racing:
            contestant.end()
    after = peak_gflops(torch.bfloat16, options.threads), peak_gflops(torch.float32, options.threads)
    peaks = {"bf16": max(before[0], after[0]), "fp32": max(before[1], after[1])}
    rows = [figures(one, warm, case, peaks, name == "w2") for one in racing]
    if name != "w3":  # whose losses have a term more
        check_losses(rows)
    return {
        "case": case | {"tokens": sum(case["tokens"]), "labelled": sum(case["labelled"])},
        "peaks": peaks,
        "rows": rows,
    }


def check_losses(rows: list[dict[str, Any]]) -> None:
    """Refuse to compare what did not compute the same."""
    losses = {row["name"]: row["loss"] for row in rows}
    if not max(losses.values()) - min(losses.values()) <= SAME_LOSS * abs(max(losses.values())):
        raise SystemExit(f"the contestants report different losses on the same rows: {losses}")


def figures(one: Contestant, warm: int, case: dict[str, Any], peaks: dict[str, float], passes: bool) -> dict[str, Any]:
    """What a contestant's counted steps say."""
    counted = one.steps[warm:]
    cpu = [step["cpu_s"] for step in counted]
    found = {
        "name": one.name,
        "cpu_s": statistics.median(cpu),
        "cpu_s_least": min(cpu),
        "cpu_s_most": max(cpu),
        "wall_s": statistics.median(step["wall_s"] for step in counted),
        "loss": statistics.mean(step["loss"] for step in counted),
        "peak_mb": max(step["peak_mb"] for step in counted),
        "loaded_mb": counted[0]["loaded_mb"],
    }
    if passes:  # the first pass without its very first step, which warms up, then all the others
        epoch = case["steps_per_epoch"]
        first = statistics.mean(step["cpu_s"] for step in one.steps[1:epoch]) * epoch
        later = statistics.mean(cpu) * epoch
        return found | {"first_pass_s": first, "later_pass_s": later, "ten_passes_s": first + (PASSES - 1) * later}
    useful = useful_gflop(case) / found["cpu_s"]
    return found | {"useful_gflops": useful, "of_bf16_peak": useful / peaks["bf16"]}


def shown(name: str, found: dict[str, Any]) -> str:
    """The table of a case."""
    rows, case = found["rows"], found["case"]
    cost = "ten_passes_s" if name == "w2" else "cpu_s"
    ours = rows[0][cost]
    head = (
        "| contestant | cost, of the first's | CPU s a step (least to most) | wall s | loss | peak MB (after loading) |"
    )
    rule = "|---|---|---|---|---|---|"
    if name == "w2":
        head, rule = f"{head} first pass, later pass, {PASSES} passes: CPU s |", f"{rule}---|"
    elif name != "w3":
        head, rule = f"{head} useful GFLOP/CPU-s | of bf16 peak |", f"{rule}---|---|"
    lines = [
        f"{name}: {case['parameters']:,} parameters, batches of {case['batch']}, {case['tokens']} tokens an epoch, "
        f"{case['labelled']} with a label; peaks {found['peaks']['bf16']:.0f} (bf16) and {found['peaks']['fp32']:.0f} "
        "(fp32) GFLOP/CPU-s",
        "",
        head,
        rule,
    ]
    for row in rows:
        cells = [
            row["name"],
            f"{row[cost] / ours:.2f}",
            f"{row['cpu_s']:.2f} ({row['cpu_s_least']:.2f} to {row['cpu_s_most']:.2f})",
            f"{row['wall_s']:.2f}",
            f"{row['loss']:.4f}",
            f"{row['peak_mb']:.0f} ({row['loaded_mb']:.0f})",
        ]
        if name == "w2":
            cells.append(f"{row['first_pass_s']:.1f}, {row['later_pass_s']:.1f}, {row['ten_passes_s']:.1f}")
        elif name != "w3":
            cells += [f"{row['useful_gflops']:.0f}", f"{row['of_bf16_peak']:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def make_llamafactory(environment: Path) -> None:
    """The environment that the page above describes."""
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "pip"), "install"]
    subprocess.run([*pip, "-r", str(HERE / "llamafactory.txt")], check=True)
    subprocess.run([*pip, "--no-deps", "llamafactory==0.9.5"], check=True)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (packages / "torchaudio.py").touch()


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=sorted(CASES), default=sorted(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--llamafactory", type=Path, help="an environment with LlamaFactory 0.9.5")
    parser.add_argument("--make-llamafactory", type=Path, metavar="ENVIRONMENT", help="make it, and do nothing else")
    parser.add_argument("--text", type=Path, help="words of this file instead of invented ones")
    parser.add_argument("--contestants", nargs="+", help="only these, by their names in the table")
    parser.add_argument("--tiny", action="store_true", help="small models: to see that all runs, not how fast")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Race, show, write down."""
    options = arguments()
    if options.make_llamafactory:
        make_llamafactory(options.make_llamafactory)
        return
    told = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": options.threads,
    }
    for name in options.case:
        with tempfile.TemporaryDirectory() as folder:
            told[name] = race(name, options, Path(folder))
        print(shown(name, told[name]), end="\n\n", flush=True)
        if options.out:
            options.out.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
