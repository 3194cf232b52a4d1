"""The plots of the page, one panel a measure. Names of the data are escaped; the rest are our own words."""

from collections.abc import Callable
from html import escape
from typing import Protocol

from nacre.data.report import balance, drift, plots, private
from nacre.data.report.language import name_of
from nacre.data.report.records import DataReport, Said
from nacre.data.report.summary import UNITS

_MOST_BARS = 24


class Words(Protocol):
    """What puts the page's words into its languages; see `page.Words`."""

    def __call__(self, key: str) -> str:
        """The words under a key."""

    def either(self, texts: Said) -> str:
        """A sentence in each language."""


def _p(html: str) -> str:
    return f"<p>{html}</p>"


def _figures(pairs: list[tuple[str, str]]) -> str:
    return (
        '<dl class="figures">'
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs)
        + "</dl>"
    )


def _balance(found: DataReport, said: Words) -> str:
    one = found.balance
    if not one.classes:
        return _p(said("no classes"))
    by = said(one.by) if one.by in ("answer", "judgement") else escape(one.by)
    top = one.classes[0].rows
    drawn = plots.bars(
        (escape(each.name), each.rows / top, f"{each.rows:,}", "bad" if each.ratio > balance.MAX_RATIO else "")
        for each in one.classes
    )
    more = _p(f"{one.more:,} {said('more classes')}") if one.more else ""
    outside = _p(f"{one.outside:,} {said('outside classes')}") if one.outside else ""
    return _p(f"{said('by')} {by}") + drawn + more + outside


def _coverage(found: DataReport, said: Words) -> str:
    one = found.coverage
    if one.share is None:
        return _p(said("no coverage"))
    top = max(max(field.rows for field in one.fields), one.looked / len(one.fields), 1)
    fields = sorted(one.fields, key=lambda field: (field.rows > 0, -field.rows))  # what is missing stands first
    drawn = plots.bars(
        (escape(field.name), field.rows / top, f"{field.rows:,}" if field.rows else '<span class="no">0</span>', "")
        for field in fields[:_MOST_BARS]
    )
    more = len(fields) - _MOST_BARS
    outside = one.outside / one.looked if one.looked else 0.0
    listed = _p(f"+ {more}") if more > 0 else ""
    return _p(said(one.of)) + drawn + listed + _p(f"{outside:.0%} {said('outside fields')}")


def _diversity(found: DataReport, said: Words) -> str:
    one = found.diversity
    figures = []
    if one.distinct_prompts is not None:
        figures.append((said("distinct prompts"), f"{one.distinct_prompts:.1%}"))
    if one.self_similarity is not None:
        figures.append((said("similarity"), f"{one.self_similarity:.2f}"))
    rows = [
        (f"{said(name)}, Distinct-{n}", pair[n - 1], f"{pair[n - 1]:.2f}", "")
        for name, pair in (("prompts", one.prompt_distinct), ("answers", one.answer_distinct))
        if pair
        for n in (1, 2)
    ]
    return _figures(figures) + plots.bars(rows) + _p(said("distinct"))


def _timeliness(found: DataReport, said: Words) -> str:
    one = found.timeliness
    undated = _p(f"{one.undated:,} {said('undated')}") if one.undated else ""
    if not one.years:
        return _p(said("no dates"))
    first, last = int(min(one.years)), int(max(one.years))
    first = max(first, last - 29)  # a stray year of long ago must not press the others together
    older = sum(rows for year, rows in one.years.items() if int(year) < first)
    values = [(str(year), one.years.get(str(year), 0)) for year in range(first, last + 1)]
    if older:
        values.insert(0, (f"< {first}", older))
    since = one.since[:4]
    drawn = plots.columns(
        [
            (year, rows, "pale" if year < since or year[0] == "<" else "z1" if year == since else "fill")
            for year, rows in values
        ],
        title="years",
    )
    return _p(f"{said('years')} {said('since')} {one.since}{said('stop')}") + drawn + undated


def _language(found: DataReport, said: Words) -> str:
    one = found.language

    def part(rows: dict[str, int]) -> str:
        total = sum(rows.values())
        keys = "".join(
            f'<li><i class="{name}"></i>{said.either(name_of(name))} {count / total:.1%}</li>'
            for name, count in rows.items()
        )
        drawn = plots.stacked([(count / total, name) for name, count in rows.items()], title="language")
        return f'{drawn}<ul class="keys">{keys}</ul>'

    if not one.earlier:
        return part(one.rows)
    now = f'<span class="label">{said("these")}</span>{part(one.rows)}'
    return f'{now}<span class="label">{said("earlier")}</span>{part(one.earlier)}'


def _length(found: DataReport, said: Words) -> str:
    one = found.length.units[-1]
    quantiles = one.quantiles
    figures = [
        (said("median"), f"{quantiles['median']:,}"),
        (said("mean"), f"{one.mean:,.0f}"),
        (said("p95"), f"{quantiles['p95']:,}"),
        (said("max"), f"{quantiles['max']:,}"),
    ]
    values = [
        (f"≤ {bound}" if bound < 1024 else f"≤ {bound >> 10}k", rows, "")
        for bound, rows in zip(one.bins, one.rows, strict=True)
    ]
    unit = f'<span class="label">{said.either(UNITS[one.unit])}</span>'
    return _figures(figures) + unit + plots.columns(values, title=one.unit) + _p(said("length"))


def _duplicates(found: DataReport, said: Words) -> str:
    one = found.duplicates
    rows = [(said("equal within"), one.within), (said("near within"), one.near)]
    rows += [(f"{said('equal across')} {escape(each.name)} ({each.split})", each.rows) for each in one.across]
    if one.across:
        rows += [(said("near across"), one.near_across), (said("near dev"), one.near_dev)]
    return plots.bars((label, count / found.rows, f"{count:,}", "bad" if count else "") for label, count in rows)


def _private(found: DataReport, said: Words) -> str:
    one = found.private
    if not one.found:
        return _p(said("no private"))
    top = max(one.rows.values())
    drawn = plots.bars(
        (said.either(private.KINDS[kind]), rows / top, f"{rows:,}", "hatched" if kind in private.BY_CONTEXT else "")
        for kind, rows in one.rows.items()
    )
    return drawn + _p(said("private"))


def _drift(found: DataReport, said: Words) -> str:
    one = found.drift
    if one.auc is None or one.interval is None or one.level is None:
        return _p(said("no drift"))
    zones = list(zip((*drift.BOUNDS, 1.0), ("z0", "z1", "z2", "z3"), strict=True))
    parts = [_p(said.either(drift.MEANING[one.level])), plots.scale(one.auc, one.interval, zones, title="AUC")]
    parts.append(_p(said("auc")))
    parts.append(_p(f"{said('js')} {one.js:.3f} {said('by chance')} {one.js_chance:.3f}."))
    for key, terms in (("new terms", one.terms), ("earlier terms", one.earlier_terms)):
        if terms:
            listed = "".join(f'<span class="term">{escape(term)}</span>' for term in terms)
            parts.append(f'<span class="label">{said(key)}</span><div class="terms">{listed}</div>')
    return "".join(parts)


PANELS: dict[str, Callable[[DataReport, Words], str]] = {
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
