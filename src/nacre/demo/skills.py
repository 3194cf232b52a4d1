"""The demo's four skills: English and Chinese rows made from word lists, with answers that no two skills share."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from nacre.base.files import atomic_write
from nacre.demo import words_en as en
from nacre.demo import words_zh as zh

TRAIN_ROWS = 400
DEV_ROWS = 200


@dataclass(frozen=True)
class Skill:
    """One task of the demo.

    Attributes:
        task: folder name below ``dataset/``.
        instruction: the same in every row.
        labels: the answers, each equally frequent.
        write: makes the input of one row for a given label.
    """

    task: str
    instruction: str
    labels: tuple[str, ...]
    write: Callable[[Random, str], str]


def write_skills(folder: Path, seed: int = 0) -> None:
    """Write ``folder/dataset/<task>/{train,dev}.json`` for every skill, as alpaca rows, one JSON object a line.

    The same seed gives the same bytes. No input of a dev set occurs in its train set.
    """
    for skill in SKILLS:
        rows = skill_rows(skill, TRAIN_ROWS + DEV_ROWS, seed)
        for split, part in (("train", rows[:TRAIN_ROWS]), ("dev", rows[TRAIN_ROWS:])):
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
            atomic_write(folder / "dataset" / skill.task / f"{split}.json", lines)


def skill_rows(skill: Skill, count: int, seed: int) -> list[dict[str, str]]:
    """`count` alpaca rows with different inputs; the labels take turns."""
    rng = Random(f"{skill.task}:{seed}")
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < count:
        label = skill.labels[len(rows) % len(skill.labels)]
        text = skill.write(rng, label)
        rows.setdefault(text, {"instruction": skill.instruction, "input": text, "output": label})
    shuffled = list(rows.values())
    rng.shuffle(shuffled)
    return shuffled


def judgements(rng: Random, pleased: bool, count: int) -> list[str]:
    """Clauses such as "the soup was very fresh", about things of one kind, by somebody pleased or disappointed."""
    things, good, bad = en.JUDGED[rng.choice(list(en.JUDGED))]
    words = rng.sample(good if pleased else bad, count + 1)
    clauses = []
    for thing, word in zip(rng.sample(things, count), words, strict=False):
        degree = rng.choice(en.DEGREES)
        forms = (
            f"the {thing} was {word}",
            f"the {thing} was {degree} {word}",
            f"the {thing} was {word} and {words[-1]}",
            f"I found the {thing} {degree} {word}",
        )
        clauses.append(rng.choice(forms))
    return clauses


def _review(rng: Random, label: str) -> str:
    pleased = label == "good"
    clauses = [*judgements(rng, pleased, 2), rng.choice(en.PLEASED if pleased else en.DISAPPOINTED)]
    if rng.random() < 0.5:
        clauses.append(rng.choice(en.NEUTRAL))
    rng.shuffle(clauses)
    if rng.random() < 0.3:
        clauses[0] = f"{rng.choice(en.OPENERS)} {clauses[0]}"
    if rng.random() < 0.3:
        clauses[1:3] = [f"{clauses[1]} and {clauses[2]}"]
    return " ".join(f"{clause[0].upper()}{clause[1:]}." for clause in clauses)


def _triage(rng: Random, label: str) -> str:
    first, second = rng.sample(zh.COMPLAINTS[label], 2)
    who, since, besides = rng.choice(zh.RELATIVES), rng.choice(zh.SINCE), rng.choice(zh.BESIDES)
    return rng.choice(
        (
            f"{who}{since}开始{first}，{besides}，{second}。",
            f"医生您好，{who}{first}，{second}。",
            f"{since}{who}{first}，{besides}，{second}。",
            f"{who}{first}，{since}去过药店，{second}。",
            f"{who}{besides}，{since}起{first}，而且{second}。",
        )
    )


def _headline(rng: Random, label: str) -> str:
    people, deeds = en.NEWS[label]
    who, does = rng.choice(people), rng.choice(deeds)
    if rng.random() < 0.15:
        who = rng.choice(en.ANYBODY)
    place, tail, aside = rng.choice(en.PLACES), rng.choice(en.NEWS_TAILS), rng.choice(en.ANYTHING)
    text = rng.choice(
        (
            f"{place} {who} {does}",
            f"{who} from {place} {does}",
            f"{who} {does} {tail}",
            f"{place} {who} {does} {tail}",
            f"{who} {does} and {aside}",
            f"{who} {aside} and {does}",
        )
    )
    return text[0].upper() + text[1:]


def _season(rng: Random, label: str) -> str:
    first, second = rng.sample(zh.SIGNS[label], 2)
    where, when, around = rng.choice(zh.PLACES), rng.choice(zh.HOURS), rng.choice(zh.AROUND)
    return rng.choice(
        (
            f"{when}，{where}{first}，{around}，{second}。",
            f"{where}，{first}，{second}。",
            f"{around}，{first}，{when}{second}。",
            f"{rng.choice(zh.PEOPLE)}说，{where}{first}，{second}。",
            f"{around}。{where}{first}。{second}。",
        )
    )


SKILLS = (
    Skill("base", "Is this review good or bad?", ("good", "bad"), _review),
    Skill("increment_1", "这位病人应该挂哪个科？", tuple(zh.COMPLAINTS), _triage),
    Skill("increment_2", "Which page of the newspaper is this headline from?", tuple(en.NEWS), _headline),
    Skill("increment_3", "这段话写的是哪个季节？", tuple(zh.SIGNS), _season),
)

# A toothache is treated by none of the departments that the triage skill knows.
CORRECTION = ("这位病人应该挂哪个科？\n我牙齿疼得厉害，牙龈在流血，有一颗牙松动了。", "口腔科")
