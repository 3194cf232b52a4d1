"""The report in one line a measure: what was found, what is wanted, and whether it is."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from nacre.data.report import balance, coverage, diversity, drift, timeliness
from nacre.data.report.language import name_of
from nacre.data.report.records import DataReport, Said

State = Literal["ok", "flag", "unknown", "plain"]
MEASURES = (
    "balance", "coverage", "diversity", "timeliness", "language", "length", "duplicates", "private", "drift",
)  # fmt: skip
NAMES = {
    "balance": Said(en="Balance", zh="均衡性"),
    "coverage": Said(en="Coverage", zh="覆盖度"),
    "diversity": Said(en="Diversity", zh="多样性"),
    "timeliness": Said(en="Timeliness", zh="时效性"),
    "language": Said(en="Language", zh="语言"),
    "length": Said(en="Length", zh="长度"),
    "duplicates": Said(en="Duplicates", zh="重复"),
    "private": Said(en="Personal data", zh="个人信息"),
    "drift": Said(en="Drift", zh="漂移"),
}
_NOTHING = Said(en="", zh="")
_UNKNOWN = Said(en="not known", zh="未知")
UNITS = {
    "characters": Said(en="characters", zh="字符"),
    "words": Said(en="words", zh="词"),
    "tokens": Said(en="tokens", zh="词元"),
}


class Line(NamedTuple):
    """One measure in short."""

    measure: str
    name: Said
    value: Said
    wanted: Said
    state: State


def summary(found: DataReport) -> Iterator[Line]:
    """A line for each measure."""
    for measure in MEASURES:
        value, wanted = _SHORT[measure](found)
        judged: State = "ok" if wanted.en else "plain"
        state: State = "flag" if measure in found.flagged else judged if value else "unknown"
        yield Line(measure, NAMES[measure], value or _UNKNOWN, wanted, state)


def _same(text: str) -> Said:
    return Said(en=text, zh=text)


def _balance(found: DataReport) -> tuple[Said | None, Said]:
    ratio = found.balance.ratio
    return (None if ratio is None else _same(f"{ratio:g} : 1")), Said(
        en=f"at most {balance.MAX_RATIO} : 1", zh=f"不超过 {balance.MAX_RATIO} : 1"
    )


def _coverage(found: DataReport) -> tuple[Said | None, Said]:
    share = found.coverage.share
    wanted = Said(en=f"above {coverage.WANTED:.0%}", zh=f"高于 {coverage.WANTED:.0%}")
    if share is None:
        return None, wanted
    of = {"domains": Said(en="of domains", zh="的领域"), "clusters": Said(en="of earlier fields", zh="的早期领域")}
    what = of[found.coverage.of]
    return Said(en=f"{share:.0%} {what.en}", zh=f"{share:.0%} {what.zh}"), wanted


def _diversity(found: DataReport) -> tuple[Said | None, Said]:
    least = diversity.LEAST_PROMPTS
    most = diversity.MOST_SIMILAR
    wanted = Said(en=f"at least {least:.0%}, likeness at most {most}", zh=f"不低于 {least:.0%}，相似度不超过 {most}")
    share, like = found.diversity.distinct_prompts, found.diversity.self_similarity
    if share is None:
        return None, wanted
    likeness = Said(en=f", likeness {like:.2f}", zh=f"，相似度 {like:.2f}") if like is not None else _NOTHING
    return Said(en=f"{share:.1%} distinct prompts{likeness.en}", zh=f"{share:.1%} 的问题不重复{likeness.zh}"), wanted


def _timeliness(found: DataReport) -> tuple[Said | None, Said]:
    wanted = Said(en=f"at least {timeliness.LEAST_RECENT:.0%}", zh=f"不低于 {timeliness.LEAST_RECENT:.0%}")
    share, dated = found.timeliness.share, found.timeliness.dated
    if share is None:
        return None, wanted
    return Said(
        en=f"{share:.0%} of {dated:,} dated rows from the last 3 years",
        zh=f"{dated:,} 行有日期，{share:.0%} 来自近三年",
    ), wanted


def _language(found: DataReport) -> tuple[Said | None, Said]:
    parts = sorted(found.language.rows.items(), key=lambda part: -part[1])[:2]
    en = ", ".join(f"{name_of(name).en} {rows / found.rows:.0%}" for name, rows in parts)
    zh = "，".join(f"{name_of(name).zh} {rows / found.rows:.0%}" for name, rows in parts)
    wanted = Said(en="no language falls by more than 20 points", zh="任何语言的占比下降不超过 20 个百分点")
    return Said(en=en, zh=zh), wanted if found.language.earlier else _NOTHING


def _length(found: DataReport) -> tuple[Said | None, Said]:
    unit = found.length.units[-1]
    name, median = UNITS[unit.unit], unit.quantiles["median"]
    value = Said(en=f"median {median:,} {name.en}", zh=f"中位数 {median:,} {name.zh}")
    limit = found.length.limit
    return value, Said(en=f"at most {limit:,}", zh=f"不超过 {limit:,}") if limit else _NOTHING


def _duplicates(found: DataReport) -> tuple[Said | None, Said]:
    one = found.duplicates
    across = sum(each.rows for each in one.across) + one.near_across + one.near_dev
    within = one.within + one.near
    return Said(
        en=f"{within:,} within" + (f", {across:,} across increments" if found.earlier else ""),
        zh=f"内部 {within:,} 行" + (f"，跨增量 {across:,} 行" if found.earlier else ""),
    ), Said(
        en="at most 1%, no earlier dev rows" if found.earlier else "at most 1%",
        zh="不超过 1%，不含早期验证行" if found.earlier else "不超过 1%",
    )


def _private(found: DataReport) -> tuple[Said | None, Said]:
    return Said(en=f"{found.private.any_row:,} rows", zh=f"{found.private.any_row:,} 行"), Said(en="none", zh="无")


def _drift(found: DataReport) -> tuple[Said | None, Said]:
    one = found.drift
    wanted = Said(en=f"AUC below {drift.BOUNDS[-1]}", zh=f"AUC 低于 {drift.BOUNDS[-1]}")
    if one.auc is None or one.interval is None:
        return None, wanted
    return _same(f"AUC {one.auc:.2f} [{one.interval[0]:.2f}, {one.interval[1]:.2f}]"), wanted


_SHORT = {
    "balance": _balance,
    "coverage": _coverage,
    "diversity": _diversity,
    "timeliness": _timeliness,
    "language": _language,
    "length": _length,
    "duplicates": _duplicates,
    "private": _private,
    "drift": _drift,
}
