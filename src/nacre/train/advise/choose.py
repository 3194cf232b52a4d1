"""The advice: models ranked for a task and a machine, why others do not fit, and what the job needs elsewhere."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nacre.data.report.records import Said
from nacre.train.advise.families import Base
from nacre.train.advise.hardware import Hardware, elsewhere
from nacre.train.advise.plans import FEW, INCREMENT, Plan, plan, remedy, why_not
from nacre.train.advise.workload import Workload

SHOWN, OF_ONE_FAMILY = 5, 2
IDEAL = {"classification": 1.5e9, "qa": 7e9, "generation": 7e9, "chat": 7e9, "domain": 7e9}  # parameters
SPECIAL, MANY_CARDS = 40e9, 8  # a special domain's model, where there are so many cards
DAY_s = 86_400.0
LEAST_ROWS, GOOD_ROWS = 100, 200


@dataclass(frozen=True)
class Refused:
    """A model that does not fit, or does not run here, with the cheapest change that helps."""

    name: str
    why: Said
    change: Said


@dataclass(frozen=True)
class Advice:
    """What fits.

    Attributes:
        choices: plans that fit, the best first.
        refused: of the others those nearest to the task's usual size.
        elsewhere: the best choice's model, or where nothing fits the smallest, on other machines.
        sure: how far the figures can be trusted.
    """

    work: Workload
    hardware: Hardware
    choices: tuple[Plan, ...]
    refused: tuple[Refused, ...]
    elsewhere: tuple[Plan, ...]
    sure: Said
    notes: tuple[Said, ...]

    def as_json(self) -> dict[str, Any]:
        """For machines; sentences in both languages."""
        work = self.work
        return {
            "task": work.task,
            "rows": work.rows,
            "language": work.language,
            "tokens": {"p95": work.covering, "longest": work.longest, "mean": round(work.mean, 1)},
            "hardware": self.hardware.name.en,
            "choices": [one.as_json() for one in self.choices],
            "refused": [
                {"model": one.name, "why": _both(one.why), "change": _both(one.change)} for one in self.refused
            ],
            "elsewhere": [one.as_json() for one in self.elsewhere],
            "sure": _both(self.sure),
            "notes": [_both(one) for one in self.notes],
            "yaml": self.choices[0].yaml if self.choices else "",
        }


def _both(said: Said) -> dict[str, str]:
    return {"en": said.en, "zh": said.zh}


def advise(bases: Sequence[Base], work: Workload, hardware: Hardware) -> Advice:
    """Rank `bases` for `work` on `hardware`. Nothing is loaded; figures come from the estimate that training uses."""
    foreign = [base for base in bases if base.remote_code]
    plans = [plan(base, work, hardware) for base in bases if not base.remote_code]
    fitting = sorted((one for one in plans if one.fits), key=lambda one: _distance(one, work))
    choices = _mixed(fitting, OF_ONE_FAMILY)
    others = sorted((one for one in plans if not one.fits), key=lambda one: _from_ideal(one.base, work, hardware))
    refused = [Refused(one.base.name, why_not(one), remedy(one, work)) for one in _mixed(others, 1)]
    refused += [_runs_foreign_code(base) for base in foreign]
    smallest = min(plans, key=lambda one: one.estimate.memory_bytes, default=None)
    job = choices[0] if choices else smallest
    return Advice(
        work=work,
        hardware=hardware,
        choices=tuple(choices),
        refused=tuple(refused),
        elsewhere=tuple(plan(job.base, work, one) for one in elsewhere()) if job else (),
        sure=_sure(hardware),
        notes=(*work.notes, *_rules(work, hardware)),
    )


def _distance(one: Plan, work: Workload) -> float:
    """How far a plan is from what is wanted; a whole number is a factor of two in size."""
    base = one.base
    found = _from_ideal(base, work, one.hardware)
    if work.language not in base.languages and base.languages:
        found += 1.0 if base.multilingual else 2.5
    if not {"general", "domain"} & set(base.uses):
        found += 2.0
    if "no commercial use" in base.licence:
        found += 1.0
    elif not base.licence.startswith(("Apache", "MIT")):
        found += 0.25
    found += 0.25 * (one.recipe.tune.name == "qlora") + 0.25 * bool(one.recipe.train.gradient_checkpointing)
    return found + 2 * max(0.0, math.log2(max(one.estimate.seconds, 1.0) / DAY_s))


def _from_ideal(base: Base, work: Workload, hardware: Hardware) -> float:
    ideal = SPECIAL if work.task == "domain" and hardware.cards >= MANY_CARDS else IDEAL[work.task]
    return abs(math.log2(base.sizes.parameters / ideal))


def _mixed(plans: Sequence[Plan], most: int) -> list[Plan]:
    """The first ones, at most so many of one family."""
    seen: Counter[str] = Counter()
    found = []
    for one in plans:
        seen[one.base.family] += 1
        if seen[one.base.family] <= most:
            found.append(one)
    return found[:SHOWN]


def _runs_foreign_code(base: Base) -> Refused:
    return Refused(
        base.name,
        Said(
            en="runs only with code out of its own folder, which nacre refuses", zh="须执行其文件夹中的代码，nacre 拒绝"
        ),
        Said(en="take a family that transformers knows by itself", zh="请选 transformers 自带支持的系列"),
    )


def _sure(hardware: Hardware) -> Said:
    if not hardware.cards:
        return Said(
            en="memory: within 15 % of real runs on a CPU; time: rough, training alone",
            zh="内存：与 CPU 实测相差 15% 以内；时间：粗略，仅指训练本身",
        )
    en, zh = "from the card's measured speed", "按本卡实测速度"
    if hardware.assumed:
        en, zh = "assumes a usual card of this size", "按同等显存的常见显卡假定"
    return Said(
        en=f"memory: computed, not measured on a card, so a quarter is kept free; time: rough, {en}",
        zh=f"显存：由计算得出，未在显卡上实测，故留四分之一余量；时间：粗略，{zh}",
    )


def _rules(work: Workload, hardware: Hardware) -> list[Said]:
    """What experience says of so many rows, and of such a task."""
    found = []
    if work.rows < LEAST_ROWS:
        found.append(
            Said(
                en=f"{work.rows} rows are too few to train on: {LEAST_ROWS} to {GOOD_ROWS} good ones are the least; "
                "until then put examples into the prompt, or write more with nacre data synthesize",
                zh=f"{work.rows} 行不足以训练：至少需要 {LEAST_ROWS}–{GOOD_ROWS} 行优质数据；"
                "在此之前可把示例写进提示词，或用 nacre data synthesize 扩充",
            )
        )
    elif work.rows < FEW:
        found.append(
            Said(
                en="few rows: a small adapter, 10 epochs, variants of the rows, early stopping; "
                "see the tutorial few-shot",
                zh="数据很少：小适配器、10 轮、数据增强、早停；见教程 few-shot",
            )
        )
    elif work.rows < INCREMENT:
        en, zh = f"an increment does best with {INCREMENT:,} rows and more", f"一次增量最好有 {INCREMENT:,} 行以上"
        found.append(Said(en=en, zh=zh))
    if work.task == "domain":
        found.append(
            Said(
                en="a domain: a lexicon of 500 terms and more, 2 epochs over its texts (stage pt) with general text "
                "beside them, then instructions; 40B models on eight cards are usual for special ones",
                zh="领域适配：500 条以上术语表，领域文本训练 2 轮（stage pt）并混入通用文本，"
                "再做指令微调；专业领域常用 40B 模型配八张卡",
            )
        )
    if not hardware.cards:
        en, zh = "a 7B model trains on one card of 12 GB with QLoRA", "一张 12 GB 显卡用 QLoRA 即可训练 7B 模型"
        found.append(Said(en=en, zh=zh))
    return found
