"""An evolution report as Markdown, in one language."""

from collections.abc import Iterator, Sequence

from nacre.cycle.reports.facts import Evolved
from nacre.cycle.reports.numbers import bytes_told, counts, number, place_of, points, seconds
from nacre.cycle.reports.words import WORDS, Language
from nacre.evaluate.page_words import FIGURES_ZH
from nacre.evaluate.pictures import look
from nacre.records import Flip

SHOWN = 10  # flips of one kind and task


def to_markdown(found: Evolved, *, lang: Language = "en") -> str:
    """The same facts as the page, without its pictures: the losses of the training stand as their first and last."""

    def said(key: str) -> str:
        return WORDS[key][lang]

    outcome = found.verdict.outcome if found.verdict else "unjudged"
    place, more = place_of(found)
    start = said("base model") if found.parent is None else f"{said('version')} {found.parent}"
    lines = [
        f"# {said('version n')} {found.number} · {_plain(found.task)}",
        f"{said('from')} {start} · {_plain(found.base)} · {found.created[:16].replace('T', ' ')} UTC",
        f"**{said('decision')}**: {said(outcome)}, {said(place)}{more}",
        f"## {said('next')}",
        "\n".join(
            f"- {_plain(getattr(one, lang))}" + (f" `{one.command}`" if one.command else "") for one in found.advice
        ),
    ]
    makers = (_came_in, _trained, _matrix, _verdict, _flips, _cost, _history, _notes)
    for make in makers:
        lines += make(found, lang)
    return "\n\n".join(lines) + "\n"


def _came_in(found: Evolved, lang: Language) -> Iterator[str]:
    came, dropped = found.came_in, sum(found.came_in.dropped.values())
    yield f"## {WORDS['came in'][lang]}"
    head = [WORDS[name][lang] for name in ("train", "dev", "kept rows", "dropped")]
    yield table(head, [[f"{count:,}" for count in (came.train, came.dev, came.kept, dropped)]])
    if came.harvested:
        counted = ", ".join(f"{name} {count:,}" for name, count in came.harvested.items())
        yield f"{WORDS['harvested'][lang]} {counted}"
    if came.dropped:
        yield table(
            [WORDS["reasons"][lang], WORDS["number"][lang]],
            [[why, f"{count:,}"] for why, count in came.dropped.items()],
        )
    files = ", ".join(f"{_plain(name)} `{sha[:12]}`" for name, sha in came.sources.items())
    yield f"{WORDS['snapshot'][lang]} `{came.snapshot[:12]}` · {WORDS['sources'][lang]} {files}"


def _trained(found: Evolved, lang: Language) -> Iterator[str]:
    did = found.training
    told = {
        "stage": did.stage,
        "tuner": did.tuner,
        "protections": ", ".join(did.protections) or WORDS["nothing"][lang],
        "steps": f"{did.steps:,}" if did.steps else "–",
        "drift": "–" if did.drift is None else f"{did.drift:.3g}",
        "device": did.device,
    }
    told |= {"limits": ", ".join(f"{task} {number(limit)}" for task, limit in did.limits.items())} if did.limits else {}
    yield f"## {WORDS['trained'][lang]}"
    yield "\n".join(f"- {WORDS[name][lang].rstrip(':：')}: {_plain(value)}" for name, value in told.items())
    ends = [(one.name, one.points[0], one.points[-1]) for one in did.curves if one.points]
    if ends:
        rows = [[name, f"{first[1]:.4g} ({first[0]:g})", f"{last[1]:.4g} ({last[0]:g})"] for name, first, last in ends]
        yield table([WORDS["curve"][lang], WORDS["first"][lang], WORDS["last"][lang]], rows)


def _matrix(found: Evolved, lang: Language) -> Iterator[str]:
    yield f"## {WORDS['matrix'][lang]}"
    grid = found.matrix
    if grid is None:
        yield WORDS["no matrix"][lang]
        return
    rows = []
    for row, version in enumerate(grid.versions):
        shown = [look(grid, row, task) for task in range(len(grid.tasks))]
        cells = [
            f"**{one.text}**" if one.learned else f"({one.text})" if not one.background else one.text for one in shown
        ]
        rows.append([version, *cells])
    yield table([WORDS["version"][lang], *grid.tasks], rows)
    known = [(name, value) for name, value in found.figures.items() if value is not None]
    named = {name: FIGURES_ZH[name][0] if lang == "zh" else name for name, _ in known}
    yield ", ".join(
        f"{named[name]} {points(value) if name in ('BWT', 'FWT') else number(value)}" for name, value in known
    )


def _verdict(found: Evolved, lang: Language) -> Iterator[str]:
    verdict = found.verdict
    yield f"## {WORDS['verdict'][lang]}"
    if verdict is None:
        yield WORDS["unjudged"][lang]
        return
    other = WORDS["base model"][lang] if found.against is None else f"{WORDS['version'][lang]} {found.against}"
    yield f"{WORDS['against'][lang]} {other} · {WORDS['confidence'][lang]} {verdict.confidence:.0%}"
    rows = [
        [
            task.task,
            number(task.before),
            number(task.after),
            f"{points(-task.drop)} [{points(-task.interval[1])}, {points(-task.interval[0])}]",
            number(task.margin),
            WORDS[task.outcome][lang],
        ]
        for task in verdict.tasks
    ]
    rows += [
        [
            one.task,
            number(one.before),
            number(one.after),
            f"{points(one.after - one.before)} [{points(one.interval[0])}, {points(one.interval[1])}]",
            "–",
            WORDS["new"][lang],
        ]
        for one in found.learned
    ]
    if not verdict.tasks:
        yield WORDS["no kept"][lang]
    if rows:
        yield table([WORDS[name][lang] for name in ("task", "before", "after", "change", "allowed", "outcome")], rows)
    told = [f"{rule.rule} {rule.task}".strip() + f": {WORDS[rule.outcome][lang]}. {rule.why}" for rule in verdict.rules]
    if told or verdict.notes:
        yield "\n".join(f"- {_plain(one)}" for one in (*told, *verdict.notes))


def _flips(found: Evolved, lang: Language) -> Iterator[str]:
    yield f"## {WORDS['flips'][lang]}"
    tasks = [
        (one.task, one.lost or 0, one.gained or 0, one.flips) for one in (found.verdict.tasks if found.verdict else ())
    ]
    tasks += [(one.task, one.lost, one.gained, one.flips) for one in found.learned]
    if not any(lost or gained for _, lost, gained, _ in tasks):
        yield WORDS["no flips"][lang]
    for name, lost, gained, flips in tasks:
        if lost or gained:
            told = counts(lost, gained, (WORDS["lost"][lang], WORDS["gained"][lang]))
            yield f"### {_plain(name)}: {told}"
            chosen = [one for kind in (True, False) for one in [flip for flip in flips if flip.lost is kind][:SHOWN]]
            head = [WORDS[key][lang] for key in ("question", "before", "after", "what")]
            yield table(head, [_flip(one, lang) for one in chosen])


def _flip(one: Flip, lang: Language) -> list[str]:
    known = one.prompt or one.answer_before or one.answer_after
    texts = [one.prompt, one.answer_before, one.answer_after] if known else [WORDS["not kept"][lang]] * 3
    return [*texts, WORDS["lost" if one.lost else "gained"][lang]]


def _cost(found: Evolved, lang: Language) -> Iterator[str]:
    cost, unknown = found.cost, WORDS["unmeasured"][lang]
    yield f"## {WORDS['cost'][lang]}"
    told = {
        "training time": seconds(cost.train_s),
        "cpu": seconds(cost.cpu_s) if cost.cpu_s else unknown,
        "scoring": seconds(cost.evaluate_s),
        "energy": f"{cost.energy.watt_hours:.3g} Wh ({cost.energy.source})" if cost.energy else unknown,
        "size": bytes_told(cost.size_bytes),
        "parameters": f"{cost.parameters:,}",
    }
    yield "\n".join(f"- {WORDS[name][lang]}: {value}" for name, value in told.items())


def _history(found: Evolved, lang: Language) -> Iterator[str]:
    if found.moves:
        yield f"## {WORDS['history'][lang]}"
        rows = [[move.time[:16].replace("T", " "), move.actor, move.kind, move.why] for move in found.moves]
        yield table([WORDS[name][lang] for name in ("time", "who", "what", "why")], rows)


def _notes(found: Evolved, lang: Language) -> Iterator[str]:
    if any(found.notes.values()):
        yield f"## {WORDS['notes'][lang]}"
        yield "\n".join(f"- {part}: {_plain(one)}" for part, sentences in found.notes.items() for one in sentences)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what a cell says cannot end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """One line that Markdown reads as text, not as HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
