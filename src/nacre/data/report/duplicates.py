"""Rows that stand more than once, equal or nearly, in the data or in earlier increments.

Equal rows are counted exactly however many there are, their hashes on disk. Likeness (Jaccard of 5-character pieces
from 0.8) is looked for among the first 20,000 distinct rows of either side, earlier dev rows apart: about 2 kB of
memory a row, and up to a few milliseconds where thousands are made from one template.
"""

from nacre.base.hashing import sha256_text
from nacre.data.clean.near import NearIndex
from nacre.data.report.records import Across, Duplicates, Flag, Said
from nacre.data.report.sample import Look
from nacre.data.seen import Seen

MOST_REPEATED = 0.01
COMPARED = 20_000  # distinct rows of either side
_THRESHOLD = 0.8
_NEW, _PROMPTS = "new", "prompts"


class Repeats:
    """Equal and similar rows; closed by whoever made it. `seen` keeps the hashes and is closed apart."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._sources: list[tuple[str, str]] = []
        self._own, self._earlier, self._judged = _Alike(), _Alike(), _Alike()
        self._rows = self._near = self._near_across = self._near_dev = 0

    def __enter__(self) -> "Repeats":
        return self

    def __exit__(self, *problem: object) -> None:
        for index in (self._own, self._earlier, self._judged):
            index.close()

    def source(self, name: str, split: str) -> None:
        """The earlier rows that follow are of this increment."""
        self._sources.append((name, split))

    def earlier(self, look: Look) -> None:
        """One more earlier row."""
        self._seen.add(str(len(self._sources) - 1), look.content_id, (0, 0))
        (self._judged if self._sources[-1][1] == "dev" else self._earlier).like_or_add(look)

    def look(self, look: Look) -> None:
        """One more row, after all the earlier ones."""
        self._rows += 1
        self._seen.add(_NEW, look.content_id, (0, self._rows))
        self._seen.add(_PROMPTS, sha256_text(look.prompt.strip()), (0, self._rows))
        if self._own.full or self._own.holds(look):
            return
        if self._judged.rows and not self._judged.holds(look):
            self._near_dev += self._judged.like(look)
        if self._earlier.rows and not self._earlier.holds(look):
            self._near_across += self._earlier.like(look)
        self._near += self._own.like_or_add(look)

    def distinct_prompts(self) -> float | None:
        """The share of rows whose prompt is not an earlier row's."""
        return 1 - self._seen.repeats(_PROMPTS, 0)[0] / self._rows if self._rows else None

    def result(self) -> Duplicates:
        """The counts."""
        across = [
            Across(name=name, split=split, rows=self._seen.shared(_NEW, str(place), 0)[0])
            for place, (name, split) in enumerate(self._sources)
        ]
        return Duplicates(
            within=self._seen.repeats(_NEW, 0)[0],
            near=self._near,
            across=tuple(across),
            near_across=self._near_across,
            near_dev=self._near_dev,
            compared=self._own.rows,
            compared_earlier=max(self._earlier.rows, self._judged.rows),
        )


class _Alike:
    """An index of similar texts that stops growing."""

    def __init__(self) -> None:
        self._index = NearIndex(_THRESHOLD)
        self._equal: set[int] = set()
        self.rows = 0

    def close(self) -> None:
        self._index.close()

    @property
    def full(self) -> bool:
        return self.rows >= COMPARED

    def holds(self, look: Look) -> bool:
        return int(look.content_id[:16], 16) in self._equal

    def like(self, look: Look) -> bool:
        return bool(self._index.match(look.text))

    def like_or_add(self, look: Look) -> bool:
        """Whether an earlier row is like this one; one that is like none is compared with from now on."""
        if self.full or self.holds(look):
            return False
        self._equal.add(int(look.content_id[:16], 16))
        self.rows += 1
        return bool(self._index.match_or_add(look.text))


def flags(found: Duplicates, rows: int) -> list[Flag]:
    """Whether rows repeat, were trained on before, or are dev rows of earlier increments."""
    raised = []
    compared = max(found.compared, 1)
    if found.within / rows + found.near / compared > MOST_REPEATED:
        raised.append(
            _flag(
                f"{found.within:,} of {rows:,} rows equal another one and {found.near:,} more are like one.",
                f"{rows:,} 行中有 {found.within:,} 行与其他行完全相同，另有 {found.near:,} 行近似重复。",
                "Remove them (nacre data clean --steps duplicates,near) unless they are meant to weigh more.",
                "若非有意加权，请去除（nacre data clean --steps duplicates,near）。",
            )
        )
    raised += _across(found, rows)
    leaked = sum(one.rows for one in found.across if one.split == "dev")
    if leaked or found.near_dev:
        names = ", ".join(one.name for one in found.across if one.split == "dev" and one.rows)
        named_en, named_zh = (f" ({names})", f"（{names}）") if names else ("", "")
        raised.append(
            _flag(
                f"{leaked:,} rows are dev rows of earlier increments{named_en}, and {found.near_dev:,} more are like "
                "one.",
                f"有 {leaked:,} 行是早期增量{named_zh}的验证数据，另有 {found.near_dev:,} 行与之近似。",
                "Trained on, they prove nothing any more. nacre evolve leaves equal ones out; remove similar ones by "
                "nacre data clean with the step leaks.",
                "一旦用于训练，评测便失去意义。nacre evolve 会剔除完全相同的行；"
                "近似的行请用 nacre data clean 的 leaks 步骤去除。",
            )
        )
    return raised


def _across(found: Duplicates, rows: int) -> list[Flag]:
    train = sum(one.rows for one in found.across if one.split == "train")
    if train / rows + found.near_across / max(found.compared, 1) <= MOST_REPEATED:
        return []
    flag = _flag(
        f"{train:,} rows equal rows of earlier increments, and {found.near_across:,} more are like one.",
        f"有 {train:,} 行与早期增量完全相同，另有 {found.near_across:,} 行与之近似。",
        "They were learned already: leave them out and let replay bring old rows back.",
        "这些内容已经学过：请去掉它们，旧数据交给回放即可。",
    )
    return [flag]


def _flag(found_en: str, found_zh: str, advice_en: str, advice_zh: str) -> Flag:
    found, advice = Said(en=found_en, zh=found_zh), Said(en=advice_en, zh=advice_zh)
    return Flag(measure="duplicates", level="flag", found=found, advice=advice)
