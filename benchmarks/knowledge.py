"""The store of documents: memory and time to index many chunks, and recall of retrieval.

    python benchmarks/knowledge.py memory [--chunks 100000] [--dimensions 256]
    python benchmarks/knowledge.py recall [--facts 2000] [--model FOLDER]

`memory` writes made-up files, indexes them in a fresh process, and prints by how much the memory of that process (its
resident set, peak) rose above what it was once everything was imported. `recall` asks for facts of a made-up handbook,
half of them in Chinese, in other words than the handbook's, and for things that are not in it. What answers gain by
them `knowledge_answers.py` measures.
"""

import argparse
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from nacre.serve.knowledge import part
from nacre.serve.knowledge.build import renew
from nacre.serve.knowledge.search import Searcher
from nacre.serve.knowledge.settings import Knowledge
from nacre.serve.knowledge.snapshots import Source, Where

FIRST = ("Nor", "Sal", "Ver", "Tam", "Kel", "Bro", "Dun", "Fal", "Gar", "Hol", "Ist", "Jor", "Lum", "Mar", "Osk", "Pel")
LAST = ("wick", "dale", "ford", "mere", "stead", "burn", "holm", "ley", "gate", "combe", "thorpe", "beck")
THINGS = {  # what is written, what is asked, and the same in Chinese
    "opening hour": ("The {name} branch opens at {value} o'clock.", "When does {name} open?"),
    "manager": ("{value} manages the branch in {name}.", "Who is the manager of the {name} branch?"),
    "warranty": (
        "Pumps from {name} are under warranty for {value} months.",
        "How long is the warranty on {name} pumps?",
    ),
    "仓库": ("{name}分店的仓库在{value}号楼。", "{name}的仓库在哪栋楼？"),
    "电话": ("{name}分店的客服电话是{value}。", "请问{name}分店的客服电话是多少？"),
    "运费": ("从{name}发货的运费是{value}元。", "{name}发货要付多少运费？"),
}
FILLER = (
    "Every branch keeps a log of its deliveries, and the log is read once a week by the office in the capital.",
    "各分店每周盘点一次库存，并把结果报告给总部的物流部门。",
    "Tools are cleaned after use and returned to the cupboard from which they were taken in the morning.",
    "员工在离开之前需要检查门窗，并关闭所有电器的电源。",
)
UNKNOWN = (
    "How tall is the tallest giraffe in the zoo?",
    "谁写了《红楼梦》？",
    "What is the boiling point of mercury?",
    "明天会下雨吗？",
)


def handbook(folder: Path, facts: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """Write a handbook; returns question, value and file of each fact."""
    draw = random.Random(seed)
    names = [f"{one}{other}{number}" for number in range(1 + facts // 100) for one in FIRST for other in LAST]
    asked = []
    for number, name in enumerate(draw.sample(names, max(1, facts // len(THINGS)))):
        lines = [f"# {name}"]
        for written, question in THINGS.values():
            value = str(draw.randrange(1000, 9999))
            lines += [draw.choice(FILLER), written.format(name=name, value=value), draw.choice(FILLER)]
            asked.append((question.format(name=name), value, f"branch{number}.md"))
        (folder / f"branch{number}.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return asked


def long_texts(folder: Path, chunks: int, size: int, overlap: int) -> None:
    """Files that are cut into about so many chunks: words as unevenly frequent as a language's, a fifth Chinese."""
    draw = random.Random(0)
    vocabulary = [f"{one.lower()}{other}{number}" for number in range(200) for one in FIRST for other in LAST]
    weights = list(itertools.accumulate(1 / (place + 10) for place in range(len(vocabulary))))
    per_file = 200
    for number in range(chunks // per_file):
        parts: list[str] = []
        length = 0
        while length < per_file * (size - overlap):
            words = draw.choices(vocabulary, cum_weights=weights, k=12)
            line = " ".join(words) + ". " if draw.random() < 0.8 else draw.choice(FILLER[1::2]) + "\n"
            parts.append(line)
            length += len(line)
        (folder / f"file{number:05d}.txt").write_text("".join(parts), encoding="utf-8")


def made_up_model(folder: Path, dimensions: int) -> Path:
    """A table of vectors in model2vec's layout, drawn by chance: it costs what a real one costs, and means nothing."""
    folder.mkdir()
    words = ["[UNK]", *(f"{one.lower()}{other}{number}" for number in range(200) for one in FIRST for other in LAST)]
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(0).standard_normal((len(words), dimensions), dtype=np.float32)
    save_file({"embeddings": table}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "model2vec"}')
    return folder


def memory(chunks: int, dimensions: int) -> dict[str, Any]:
    """Index in a fresh process, and ask it what it took."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "texts").mkdir()
        long_texts(root / "texts", chunks, 512, 32)
        model = str(made_up_model(root / "model", dimensions)) if dimensions else None
        words = [sys.executable, __file__, "index", "--root", str(root), *(["--model", model] if model else [])]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        found["text_mb"] = round(sum(path.stat().st_size for path in (root / "texts").iterdir()) / 2**20, 1)
        return found


def index(root: Path, model: str | None) -> dict[str, Any]:
    for name in ("store", "pdf", "static"):
        part(name)
    process = psutil.Process()
    cut = {"size": 64, "overlap": 4} if model else {}  # tokens, which are words here: as long as 512 characters
    where = Where(root, root / "store", Knowledge(model=model, **cut))
    before = process.memory_info().rss
    began = time.monotonic()
    made = renew(where, [Source(path="texts")])
    indexed_s = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    searcher = Searcher(where)
    searcher.warm()
    times = []
    for number in range(100):
        began = time.monotonic()
        searcher.search(f"norwick{number} saldale{number} 库存")
        times.append(time.monotonic() - began)
    times.sort()
    disk = sum(path.stat().st_size for path in where.folder.rglob("*") if path.is_file())
    return {
        "chunks": made.snapshot.chunks,
        "dimensions": made.snapshot.dimensions,
        "seconds": round(indexed_s, 1),
        "imported_mb": round(before / 2**20, 1),
        "peak_growth_mb": round((peak - before) / 2**20, 1),
        "disk_mb": round(disk / 2**20, 1),
        "search_ms_median": round(times[50] * 1000, 1),
        "search_ms_95": round(times[95] * 1000, 1),
    }


def recall(facts: int, model: str | None) -> dict[str, Any]:
    """How often the fact is in the first passage, and among four; how often nothing is found where nothing is."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "texts").mkdir()
        asked = handbook(root / "texts", facts)
        where = Where(root, root / "store", Knowledge(model=model))
        made = renew(where, [Source(path="texts")])
        searcher = Searcher(where)
        first = four = 0
        for question, value, _ in asked:
            hits = searcher.search(question)
            texts = [one.text for one in hits.passages] if hits else []
            first += any(value in text for text in texts[:1])
            four += any(value in text for text in texts)
        empty = sum(not hits.passages for text in UNKNOWN if (hits := searcher.search(text)))
        return {
            "facts": len(asked),
            "chunks": made.snapshot.chunks,
            "recall_at_1": round(first / len(asked), 4),
            "recall_at_4": round(four / len(asked), 4),
            "unknown_left_empty": f"{empty} of {len(UNKNOWN)}",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "recall", "index"))
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=0, help="of embeddings; 0: none")
    parser.add_argument("--facts", type=int, default=2000)
    parser.add_argument("--model")
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    if given.what == "memory":
        found = memory(given.chunks, given.dimensions)
    elif given.what == "index":
        found = index(given.root, given.model)
    else:
        found = recall(given.facts, given.model)
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
