"""Builds the file that the cleaners are measured on, and the truth about it.

    python benchmarks/data/build.py --out FOLDER [--rows 100000] [--seed 7] [--source alpaca.json ...]

FOLDER/rows.jsonl has alpaca rows with an ``id``; FOLDER/truth.jsonl one line for each row in which something was
planted: `pii` and `secrets` (values that must be gone), `date` (written, and as ISO), `html`, `damage`, `same_as` (id
of the row it equals) or `near` (id of the row it was edited from, and their exact Jaccard coefficient of 5-character
pieces). Rows of duplicates and their originals hold nothing else. FOLDER/dev.jsonl has rows that leak into rows.jsonl,
FOLDER/terms500.tsv and terms100000.tsv synonym tables.

Texts are sentences made of parts (words.py), or, with --source, the sentences of alpaca rows, shuffled: a sentence is
whole, the text around it is another. The same arguments give the same bytes.
"""

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

import planted
import words

SHARES = {"html": 0.10, "pii": 0.04, "date": 0.10, "damage": 0.03, "secret": 0.005, "same_as": 0.05, "near": 0.05}
DEV_ROWS = 500


class Source:
    """Where sentences come from."""

    def __init__(self, files: list[Path], draw: random.Random) -> None:
        self._draw = draw
        self._pools: dict[bool, list[str]] = {False: [], True: []}
        for file in files:
            for row in json.loads(file.read_text(encoding="utf-8")):
                for part in re.split(r"(?<=[.!?])\s+|(?<=[。！？])|\n+", row["output"]):
                    if 15 <= len(part.strip()) <= 300:
                        self._pools[re.search("[\u4e00-\u9fff]", part) is not None].append(part.strip())

    def row(self) -> dict[str, str]:
        chinese = self._draw.random() < 0.4
        count = self._draw.choice((3, 4, 5, 6, 8, 10))
        texts = [self._sentence(chinese) for _ in range(count + 1)]
        between = "" if chinese else " "
        asked = words.question(self._draw, texts[0].rstrip(".。"), chinese=chinese)
        given = self._sentence(chinese) if self._draw.random() < 0.3 else ""
        return {"instruction": asked, "input": given, "output": between.join(texts[1:])}

    def _sentence(self, chinese: bool) -> str:
        pool = self._pools[chinese]
        if pool:
            return self._draw.choice(pool)
        return words.sentences(self._draw, chinese=chinese) + ("。" if chinese else ".")


def build(out: Path, rows: int, seed: int, sources: list[Path]) -> None:
    draw = random.Random(seed)
    source = Source(sources, draw)
    out.mkdir(parents=True, exist_ok=True)
    dev = [source.row() for _ in range(DEV_ROWS)]
    lines(out / "dev.jsonl", dev)
    originals: list[tuple[int, dict[str, str]]] = []
    with (out / "rows.jsonl").open("w", encoding="utf-8") as file, (out / "truth.jsonl").open("w") as truth:
        for number in range(rows):
            row, known = one(draw, source, originals, dev)
            file.write(json.dumps({**row, "id": number}, ensure_ascii=False) + "\n")
            if known:
                truth.write(json.dumps({"id": number, **known}, ensure_ascii=False) + "\n")
            elif len(originals) < 20_000:
                originals.append((number, row))
            elif draw.random() < 0.05:
                originals[draw.randrange(len(originals))] = (number, row)
    terms(out, draw)


def one(
    draw: random.Random, source: Source, originals: list[Any], dev: list[Any]
) -> tuple[dict[str, str], dict[str, Any]]:
    chance = draw.random()
    if originals and chance < SHARES["same_as"]:
        number, row = draw.choice(originals)
        return row, {"same_as": number}
    if originals and chance < SHARES["same_as"] + SHARES["near"]:
        number, row = draw.choice(originals)
        edited = edit(draw, row)
        return edited, {"near": number, "jaccard": jaccard(row, edited)}
    if chance > 0.999:
        return draw.choice(dev), {"leak": True}
    row, known = source.row(), dict[str, Any]()
    if draw.random() < SHARES["pii"]:
        known["pii"] = []
        for kind in draw.sample(list(planted.PII), draw.randint(1, 2)):
            value, around = planted.PII[kind](draw)
            row["output"] += f"\n{around.format(value)}"
            known["pii"].append([kind, value])
    if draw.random() < SHARES["secret"]:
        value, around = planted.secret(draw)
        row["output"] += f"\n{around.format(value)}"
        known["secrets"] = [value]
    if draw.random() < SHARES["date"]:
        written, iso = planted.date(draw)
        row["output"] += f"\nSince {written} nothing has changed."
        known["date"] = [written, iso]
    if draw.random() < SHARES["html"]:
        row["output"] = planted.html(draw, row["output"])
        known["html"] = True
    if draw.random() < SHARES["damage"]:
        row["output"] = planted.damaged(draw, row["output"])
        known["damage"] = True
    return row, known


def edit(draw: random.Random, row: dict[str, str]) -> dict[str, str]:
    """The row with some of its characters or words replaced: a little in most, a lot in some."""
    share = draw.choice((0.005, 0.01, 0.02, 0.03, 0.15, 0.3))
    text = row["output"]
    for _ in range(max(1, int(len(text) * share / 5))):
        place = draw.randrange(len(text))
        text = text[:place] + draw.choice("xyzqw一二三四五") + text[place + draw.choice((0, 1, 1, 2)) :]
    return {**row, "output": text}


def jaccard(first: dict[str, str], second: dict[str, str]) -> float:
    """Of the sets of 5-character pieces of the whole rows: plain sets of strings, no hashing."""
    sets = []
    for row in (first, second):
        text = "\n".join((row["instruction"], row["input"], row["output"]))
        sets.append({text[place : place + 5] for place in range(len(text) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def terms(out: Path, draw: random.Random) -> None:
    """Synonym tables like a clinical terminology's: terms of one to four words, some of which stand in the texts."""
    stems = ("cardi", "neur", "hepat", "nephr", "derm", "gastr", "arthr", "pulmon", "oste", "haemat")
    ends = ("itis", "opathy", "algia", "ectomy", "osis", "ology", "omegaly", "orrhaphy")
    sites = ("left", "right", "upper", "lower", "chronic", "acute", "bilateral", "secondary", "congenital", "recurrent")
    for count in (500, 100_000):
        table = {"noisy workshop": "loud workshop", "木桥": "木制桥梁", "winter timetable": "winter schedule"}
        while len(table) < count:
            kind = f"{draw.choice(stems)}{draw.choice(ends)} type {draw.randint(1, 400)}"
            name = f"{draw.choice(sites)} {draw.choice(sites)} {kind}"
            table[name] = f"disorder {len(table)}"
        text = "".join(f"{synonym}\t{preferred}\n" for synonym, preferred in table.items())
        (out / f"terms{count}.tsv").write_text(text, encoding="utf-8")


def lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--source", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    build(given.out, given.rows, given.seed, given.source)
