"""An evolution report as one HTML page of its own: no script, nothing fetched. In both languages, it has a switch."""

from collections.abc import Mapping, Sequence
from html import escape

from nacre.cycle.reports.facts import Evolved, Learned
from nacre.cycle.reports.numbers import bytes_told, number, place_of, points, seconds
from nacre.cycle.reports.pictures import change, curves
from nacre.cycle.reports.style import STYLE
from nacre.cycle.reports.words import WORDS
from nacre.data.report.page_style import STYLE as SHEET
from nacre.data.report.plots import bars
from nacre.evaluate.page import HEAT_STYLE, Lang, Language, Words, heat_map, legend, switch
from nacre.evaluate.page_words import FIGURES_ZH
from nacre.records import Flip, TaskVerdict

SHOWN = 10  # flips of one kind and task that are open; more are folded away


def to_html(found: Evolved, *, lang: Lang = "both") -> str:
    """The page. Names, and notes of the cycle, stay as they are; all else is in `lang`."""
    languages: tuple[Language, ...] = ("en", "zh") if lang == "both" else (lang,)
    said = Words(languages, WORDS)
    title = " · ".join(f"{WORDS['title'][one]} {found.number}" for one in languages)
    parts = [
        _header(found, said),
        _overview(found, said),
        _section("next", said, _advice(found, said)),
        _section("came in", said, _came_in(found, said)),
        _section("trained", said, _trained(found, said)),
        _section("matrix", said, _matrix(found, said)),
        _section("verdict", said, _verdict(found, said)),
        _section("flips", said, _flips(found, said)),
        _section("cost", said, _cost(found, said)),
        _section("history", said, _history(found, said)) if found.moves else "",
        _section("notes", said, _notes(found)) if any(found.notes.values()) else "",
    ]
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if languages[0] == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{SHEET}{HEAT_STYLE}{STYLE}</style></head>\n<body>\n"
        f"{chr(10).join(filter(None, parts))}\n</body></html>\n"
    )


def _section(name: str, said: Words, body: str) -> str:
    return f'<h2 id="{name.replace(" ", "-")}">{said(name)}</h2>\n{body}'


def _header(found: Evolved, said: Words) -> str:
    start = said("base model") if found.parent is None else f"{said('version')} {found.parent}"
    about = f"{said('from')} {start} · {escape(found.base)} · {escape(found.created[:16].replace('T', ' '))} UTC"
    title = f"{said('version n')} {found.number} · {escape(found.task)}"
    return f'<header><div><h1>{title}</h1><p class="target">{about}</p></div>{switch(said.languages)}</header>'


def _overview(found: Evolved, said: Words) -> str:
    outcome = found.verdict.outcome if found.verdict else "unjudged"
    kind = {"pass": "ok", "fail": "flag"}.get(outcome, "")
    cost = found.cost
    tiles = [
        ("verdict", kind, "decision", said(outcome), said(place_of(found)[0]) + escape(place_of(found)[1])),
        *(
            ("verdict", "", "learned", f"{number(one.before)} → {number(one.after)}", escape(one.task))
            for one in found.learned
            if one.task == found.task
        ),
        *_kept_tile(found, said),
        *_average_tile(found, said),
        (
            "came-in",
            "flag" if found.came_in.dropped else "",
            "rows",
            f"{found.came_in.train:,}",
            _rows_told(found, said),
        ),
        ("cost", "", "cost", seconds(cost.train_s), _energy(found, said)),
    ]
    listed = "".join(
        f'<li><a href="#{target}" class="{state}"><b>{said(name)}</b><span class="value">{value}</span>'
        f'<span class="wanted">{more}</span></a></li>'
        for target, state, name, value, more in tiles
    )
    return f'<ul class="overview">{listed}</ul>'


def _kept_tile(found: Evolved, said: Words) -> list[tuple[str, str, str, str, str]]:
    tasks = found.verdict.tasks if found.verdict else ()
    if not tasks:
        return []
    worst = max(tasks, key=lambda task: task.drop - task.margin)
    state = "flag" if worst.outcome == "fail" else "ok" if worst.outcome == "pass" else ""
    more = f"{escape(worst.task)} · {said('allowed')} {number(worst.margin)}"
    return [("verdict", state, "kept", points(-worst.drop), more)]


def _average_tile(found: Evolved, said: Words) -> list[tuple[str, str, str, str, str]]:
    average, back = found.figures.get("average accuracy"), found.figures.get("BWT")
    if average is None:
        return []
    return [("matrix", "", "average", number(average), f"BWT {points(back)}" if back is not None else "")]


def _rows_told(found: Evolved, said: Words) -> str:
    lost = sum(found.came_in.dropped.values())
    return f"{found.came_in.dev:,} {said('dev')}" + (f" · {lost:,} {said('dropped')}" if lost else "")


def _energy(found: Evolved, said: Words) -> str:
    energy = found.cost.energy
    return f"{energy.watt_hours:.3g} Wh" if energy else f"{said('energy')} {said('unmeasured')}"


def _advice(found: Evolved, said: Words) -> str:
    lines = "".join(
        f"<li>{said.either({'en': one.en, 'zh': one.zh})}"
        + (f" <code>{escape(one.command)}</code>" if one.command else "")
        + "</li>"
        for one in found.advice
    )
    return f'<ul class="advice">{lines}</ul>'


def _came_in(found: Evolved, said: Words) -> str:
    came = found.came_in
    told = {"train": f"{came.train:,}", "dev": f"{came.dev:,}", "kept rows": f"{came.kept:,}"}
    parts = [_figures({**told, "dropped": f"{sum(came.dropped.values()):,}"}, said)]
    if came.harvested:
        counted = " · ".join(f"{escape(name)} {count:,}" for name, count in came.harvested.items())
        parts.append(f'<p class="small">{said("harvested")} {counted}</p>')
    if came.dropped:
        top = max(came.dropped.values())
        rows = [(escape(why), count / top, f"{count:,}", "bad") for why, count in came.dropped.items()]
        parts.append(f'<p class="small">{said("dropped why")}</p>{bars(rows)}')
    files = " · ".join(f"{escape(name)} <code>{sha[:12]}</code>" for name, sha in came.sources.items())
    parts.append(
        f'<p class="small">{said("snapshot")} <code>{came.snapshot[:12]}</code> · {said("sources")} {files}</p>'
    )
    return "\n".join(parts)


def _trained(found: Evolved, said: Words) -> str:
    did = found.training
    told = {
        "stage": escape(did.stage),
        "tuner": escape(did.tuner),
        "protections": escape(", ".join(did.protections)) or said("nothing"),
        "steps": f"{did.steps:,}" if did.steps else "–",
        "drift": "–" if did.drift is None else f"{did.drift:.3g}",
        "device": escape(did.device),
    }
    parts = [_figures(told, said)]
    if did.limits:
        listed = " · ".join(f"{escape(task)} {number(limit)}" for task, limit in did.limits.items())
        parts.append(f'<p class="small">{said("limits")} {listed}</p>')
    drawn = curves(did.curves, title=WORDS["curve"][said.languages[0]])
    parts.append(
        f'<p class="label">{said("curve")}</p>{drawn}' if drawn else f'<p class="small">{said("no curve")}</p>'
    )
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in did.settings.items())
    parts.append(
        f'<details><summary>{said("settings")}</summary><table class="listed"><tbody>{rows}</tbody></table></details>'
    )
    return "\n".join(parts)


def _matrix(found: Evolved, said: Words) -> str:
    if found.matrix is None:
        return f'<p class="small">{said("no matrix")}</p>'
    known = {name: value for name, value in found.figures.items() if value is not None}
    told = "".join(
        f"<div><dt>{said.either({'en': name, 'zh': FIGURES_ZH[name][0]})}</dt>"
        f"<dd>{points(value) if name in ('BWT', 'FWT') else number(value)}</dd></div>"
        for name, value in known.items()
    )
    return f'{heat_map(found.matrix, said)}\n{legend(said)}\n<dl class="figures">{told}</dl>'


def _verdict(found: Evolved, said: Words) -> str:
    verdict = found.verdict
    tasks = verdict.tasks if verdict else ()
    other = said("base model") if found.against is None else f"{said('version')} {found.against}"
    level = f" · {said('confidence')} {verdict.confidence:.0%}" if verdict else ""
    parts = [f'<p class="small">{said("against")} {other}{level}</p>' if verdict else ""]
    reach = _reach(found)
    rows = [*(_kept(task, reach, said) for task in tasks), *(_new(one, said) for one in found.learned)]
    if not tasks:
        parts.append(f'<p class="small">{said("no kept" if verdict else "unjudged")}</p>')
    if rows:
        parts.append(f'<div class="tasks">{"".join(rows)}</div>\n<p class="legend">{said("picture")}</p>')
    if verdict and verdict.rules:
        lines = "".join(
            f'<li class="{"flag" if rule.outcome == "fail" else ""}"><b>{escape(rule.rule)} {escape(rule.task)}</b>'
            f"{said(rule.outcome)}<p>{escape(rule.why)}</p></li>"
            for rule in verdict.rules
        )
        parts.append(f'<h3 class="task">{said("rules")}</h3>\n<ul class="advice">{lines}</ul>')
    if verdict and verdict.notes:
        parts.append(_list(verdict.notes))
    return "\n".join(filter(None, parts))


def _reach(found: Evolved) -> float:
    """How far the line of a kept task's change goes to either side: the same for all, so that they can be compared."""
    kept = found.verdict.tasks if found.verdict else ()
    return max([*(abs(bound) for task in kept for bound in (*task.interval, task.margin)), 0.02]) * 1.08


def _kept(task: TaskVerdict, reach: float, said: Words) -> str:
    low, high = -task.interval[1], -task.interval[0]
    drawn = change(-task.drop, (low, high), task.margin, reach, task.outcome)
    used = task.rows if task.rows_used is None else task.rows_used
    more = f"{said('allowed')} {number(task.margin)} · {escape(task.metric)} · {used:,} {said('dev')}"
    return _task(task.task, task.outcome, (task.before, task.after), (low, -task.drop, high), drawn, more, said)


def _new(one: Learned, said: Words) -> str:
    drawn = change(one.after - one.before, one.interval, None, 1.04, "new")  # a scale of its own: rises are long
    low, high = one.interval
    more = f"{escape(one.metric)} · {one.rows:,} {said('dev')}"
    return _task(one.task, "new", (one.before, one.after), (low, one.after - one.before, high), drawn, more, said)


def _task(
    name: str,
    outcome: str,
    scores: tuple[float, float],
    rise: tuple[float, float, float],
    drawn: str,
    more: str,
    said: Words,
) -> str:
    low, middle, high = (points(value) for value in rise)
    return (
        f'<div class="{outcome}"><div><b>{escape(name)}</b><span class="state {outcome}">{said(outcome)}</span></div>'
        f'<div class="right">{number(scores[0])} → <strong>{number(scores[1])}</strong></div>'
        f'<div class="picture">{drawn}</div>'
        f'<div class="scores"><span>{middle} [{low}, {high}]</span><small>{more}</small></div></div>'
    )


def _flips(found: Evolved, said: Words) -> str:
    tasks = [
        (one.task, one.lost or 0, one.gained or 0, one.flips) for one in (found.verdict.tasks if found.verdict else ())
    ]
    tasks += [(one.task, one.lost, one.gained, one.flips) for one in found.learned]
    parts = []
    for name, lost, gained, flips in tasks:
        if lost or gained:
            told = f'<span class="state fail">−{lost:,} {said("lost")}</span> ' if lost else ""
            told += f'<span class="state pass">+{gained:,} {said("gained")}</span>' if gained else ""
            parts.append(f'<h3 class="task">{escape(name)} {told}</h3>')
            parts += [
                _folded([one for one in flips if one.lost is kind], count, said)
                for kind, count in ((True, lost), (False, gained))
            ]
    return "\n".join(parts) or f'<p class="small">{said("no flips")}</p>'


def _folded(flips: Sequence[Flip], count: int, said: Words) -> str:
    shown = "".join(_flip(one, said) for one in flips[:SHOWN])
    rest = "".join(_flip(one, said) for one in flips[SHOWN:])
    more = f"{said('more flips')} ({len(flips) - SHOWN:,} / {count:,})"
    return shown + (f"<details><summary>{more}</summary>{rest}</details>" if rest else "")


def _flip(one: Flip, said: Words) -> str:
    missing = f"<em>{said('not kept')}</em>"
    known = bool(one.prompt or one.answer_before or one.answer_after)
    texts = ((said("before"), one.answer_before, one.before), (said("after"), one.answer_after, one.after))
    answers = "".join(
        f"<dt>{name} · {number(score)}</dt><dd>{escape(text) if known else missing}</dd>" for name, text, score in texts
    )
    kind = "lost" if one.lost else "gained"
    return f'<div class="flip {kind}"><p class="asked">{escape(one.prompt) or missing}</p><dl>{answers}</dl></div>'


def _cost(found: Evolved, said: Words) -> str:
    cost = found.cost
    told = {
        "training time": seconds(cost.train_s),
        "cpu": seconds(cost.cpu_s) if cost.cpu_s else said("unmeasured"),
        "scoring": seconds(cost.evaluate_s),
        "energy": f"{cost.energy.watt_hours:.3g} Wh" if cost.energy else said("unmeasured"),
        "size": bytes_told(cost.size_bytes),
        "parameters": f"{cost.parameters:,}",
    }
    source = f'<p class="small">{escape(cost.energy.source)}</p>' if cost.energy else ""
    return _figures(told, said) + source


def _history(found: Evolved, said: Words) -> str:
    head = "".join(f'<th scope="col">{said(name)}</th>' for name in ("time", "who", "what", "why"))
    rows = "".join(
        f"<tr><td>{escape(move.time[:16].replace('T', ' '))}</td><td>{escape(move.actor)}</td>"
        f"<td>{escape(move.kind)}</td><td>{escape(move.why)}</td></tr>"
        for move in found.moves
    )
    table = f'<table class="listed history"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _notes(found: Evolved) -> str:
    return "\n".join(
        f'<h3 class="task">{escape(part)}</h3>{_list(sentences)}'
        for part, sentences in found.notes.items()
        if sentences
    )


def _list(sentences: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(one)}</li>" for one in sentences)}</ul>'


def _figures(told: Mapping[str, str], said: Words) -> str:
    """Named numbers beside each other; the values are HTML."""
    cells = "".join(f"<div><dt>{said(name)}</dt><dd>{value}</dd></div>" for name, value in told.items())
    return f'<dl class="figures">{cells}</dl>'
