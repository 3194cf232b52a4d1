"""nacre and data-juicer 1.6.1 on the same texts with matched steps, one after the other, in one run.

    python3 -m venv /tmp/dj && /tmp/dj/bin/pip install py-data-juicer==1.6.1 aiohttp
    python benchmarks/data/side_by_side.py --data FOLDER --juicer /tmp/dj/bin [--rows 20000] [--runs 3] [--out FILE]

(data-juicer needs aiohttp and does not say so.) Each record is one text: its three fields joined. Matched are HTML,
Unicode repair, e-mail, IP addresses, phone numbers, Chinese identity numbers, repetition and exact duplicates, one
process each, no network. data-juicer's replacements are plain patterns: it has no check digits; its fix_unicode runs
ftfy on every text, nacre's only where a text shows traces of damage. nacre also takes control characters out.

CPU seconds are those of the process and its children, user and system. Start-up is measured on two records and taken
off both, so that the ratio holds for large files; the plain figures are in the result too.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from itertools import islice
from pathlib import Path

OURS = """
import sys
from pathlib import Path
from nacre.data.clean.chain import choose
from nacre.data.cleaning import clean_files
folder = Path(sys.argv[1])
steps = choose(["html", "control", "unicode", "pii", "repetition", "duplicates"], folder / "matched.yaml")
print(clean_files([Path(sys.argv[2])], folder / "ours.jsonl", steps).kept)
"""
RECIPE = """
dataset_path: {rows}
export_path: {folder}/theirs.jsonl
np: 1
use_cache: false
open_tracer: false
process:
  - clean_html_mapper:
  - fix_unicode_mapper:
  - clean_email_mapper: {{repl: "[EMAIL]"}}
  - clean_ip_mapper: {{repl: "[IP]"}}
  - replace_content_mapper:
      pattern: ['(?<!\\d)1[3-9]\\d{{9}}(?!\\d)', '(?<!\\d)[1-9]\\d{{16}}[\\dXx](?!\\d)']
      repl: ["[PHONE]", "[ID]"]
  - character_repetition_filter: {{rep_len: 10, max_ratio: 0.5}}
  - document_deduplicator:
"""


def cpu_s(command: list[str]) -> float:
    """Runs it; seconds of CPU of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def texts(source: Path, target: Path, count: int) -> Path:
    """The first records, each as one text."""
    with source.open(encoding="utf-8") as rows, target.open("w", encoding="utf-8") as file:
        for row in map(json.loads, islice(rows, count)):
            whole = "\n".join((row["instruction"], row["input"], row["output"]))
            file.write(json.dumps({"text": whole}, ensure_ascii=False) + "\n")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--juicer", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder = given.data
    (folder / "matched.yaml").write_text("pii: {kinds: [EMAIL, IP, PHONE, ID]}\n")
    sets = {"all": texts(folder / "rows.jsonl", folder / "texts.jsonl", given.rows)}
    sets["start"] = texts(folder / "rows.jsonl", folder / "two.jsonl", 2)
    seconds: dict[str, list[float]] = {f"{tool} {size}": [] for tool in ("nacre", "data-juicer") for size in sets}
    for _ in range(given.runs):  # in turn, so that whatever else the machine does meets both
        for size, rows in sets.items():
            recipe = folder / f"{size}.juicer.yaml"
            recipe.write_text(RECIPE.format(rows=rows, folder=folder))
            seconds[f"nacre {size}"].append(cpu_s([sys.executable, "-c", OURS, str(folder), str(rows)]))
            theirs = [str(given.juicer / "dj-process"), "--config", str(recipe)]
            seconds[f"data-juicer {size}"].append(cpu_s(theirs))
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    net = {tool: middle[f"{tool} all"] - middle[f"{tool} start"] for tool in ("nacre", "data-juicer")}
    result = {
        "rows": given.rows,
        "cpu_s": seconds,
        "without start-up": net,
        "ratio": net["data-juicer"] / net["nacre"],
        "ratio with start-up": middle["data-juicer all"] / middle["nacre all"],
    }
    print(json.dumps(result, indent=1))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
