"""Rows for the tests of the report."""

import datetime
import random
from collections.abc import Iterable
from typing import Any

from nacre.data.report.build import Earlier, Options, report_on
from nacre.data.report.records import DataReport
from nacre.records import Example, Message, Origin

TODAY = datetime.date(2026, 11, 21)

_WHERE = ("Berlin", "Paris", "Oslo", "Rome", "Madrid", "Lima", "Quito", "Cairo", "Delhi", "Tokyo")
_HOW = ("train", "bus", "ferry", "bicycle", "tram", "car")
_WHEN = ("May", "June", "winter", "autumn", "spring", "a hurry", "the rain", "the morning")
_DISH = ("茄子", "豆腐", "鲈鱼", "牛肉", "土豆", "青菜", "鸡蛋", "羊肉")
_WAY = ("红烧", "清蒸", "干煸", "凉拌", "油炸", "炖煮")


def row(prompt: str, answer: str = "fine", **extra: Any) -> Example:
    """One question with its answer, and columns beside them."""
    return Example(
        prompt=(Message(role="user", content=prompt),),
        answers=(Message(role="assistant", content=answer),),
        origin=Origin(file="rows.json", line=1, extra=extra),
    )


def travel(count: int, seed: int) -> list[Example]:
    """English rows about journeys, all different."""
    draw = random.Random(seed)
    return [
        row(
            f"How do I get from {draw.choice(_WHERE)} to {draw.choice(_WHERE)} by {draw.choice(_HOW)} "
            f"in {draw.choice(_WHEN)}, trip {seed} {number}?",
            f"Book {draw.randint(2, 40)} days ahead and change in {draw.choice(_WHERE)}.",
        )
        for number in range(count)
    ]


def cooking(count: int, seed: int) -> list[Example]:
    """Chinese rows about dishes, all different."""
    draw = random.Random(seed)
    return [
        row(
            f"如何做{draw.choice(_WAY)}{draw.choice(_DISH)}，第{seed}批{number}号？",
            f"先洗净{draw.choice(_DISH)}，再{draw.choice(_WAY)}{draw.randint(3, 40)}分钟。",
        )
        for number in range(count)
    ]


def report(rows: Iterable[Example], earlier: Iterable[Earlier] = (), **options: Any) -> DataReport:
    """A report as of a fixed day."""
    return report_on("these", rows, earlier, Options(today=TODAY, **options))
