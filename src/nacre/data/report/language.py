"""Language, by script: Chinese characters, Latin letters, both, or others. It does not tell English from French."""

import re
from collections import Counter
from collections.abc import Mapping

from nacre.data.report.records import Flag, Language, Said
from nacre.data.report.sample import Look
from nacre.data.report.words import HAN

LANGUAGES = ("zh", "en", "mixed", "other", "none")
MOVED = 0.2
_ALONE = 0.8  # of what is written, for a row to be of one script
_CHARS = 4_000
_CHINESE = re.compile(f"[{HAN}]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]+")
_KANA = re.compile("[\u3040-\u30ff]")
_OTHER = re.compile(f"[^\\W\\d_A-Za-z\u00c0-\u024f{HAN}]+")
_NAMES = {
    "zh": Said(en="Chinese", zh="中文"),
    "en": Said(en="Latin script (English)", zh="拉丁文字（英文）"),
    "mixed": Said(en="both mixed", zh="中英混合"),
    "other": Said(en="other scripts", zh="其他文字"),
    "none": Said(en="no letters", zh="无文字"),
}


def language_of(text: str) -> str:
    """One of `LANGUAGES`; a Latin word weighs as much as a Chinese character."""
    text = text[:_CHARS]
    chinese, latin, other = (len(kind.findall(text)) for kind in (_CHINESE, _LATIN, _OTHER))
    total = chinese + latin + other
    if not total:
        return "none"
    if _KANA.search(text) and chinese + other > _ALONE * total:  # Japanese is written with Chinese characters too
        return "other"
    for name, count in (("zh", chinese), ("en", latin), ("mixed", chinese + latin)):
        if count >= _ALONE * total:
            return name
    return "other"


class Languages:
    """Counts rows by script."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._earlier: Counter[str] = Counter()

    def look(self, look: Look) -> None:
        """One more row."""
        self._rows[language_of(look.text)] += 1

    def earlier(self, look: Look) -> None:
        """One more earlier row."""
        self._earlier[language_of(look.text)] += 1

    def result(self) -> Language:
        """Rows of each."""
        return Language(rows=_ordered(self._rows), earlier=_ordered(self._earlier))


def _ordered(rows: Mapping[str, int]) -> dict[str, int]:
    return {name: rows[name] for name in LANGUAGES if rows.get(name)}


def name_of(language: str) -> Said:
    """What a key of `Language.rows` stands for."""
    return _NAMES[language]


def flags(found: Language) -> list[Flag]:
    """Whether a language's share differs by more than a fifth of the rows from the earlier ones."""
    rows, earlier = sum(found.rows.values()), sum(found.earlier.values())
    if not rows or not earlier:
        return []
    raised = []
    for name in LANGUAGES:
        now, before = found.rows.get(name, 0) / rows, found.earlier.get(name, 0) / earlier
        if before - now > MOVED:
            label = name_of(name)
            said = Said(
                en=f"{label.en}: {before:.0%} of the earlier rows, {now:.0%} of these.",
                zh=f"{label.zh}：早期数据占 {before:.0%}，本次占 {now:.0%}。",
            )
            advice = Said(
                en="What is not practised fades: see that replay holds rows of that language, and that its dev rows "
                "are judged.",
                zh="不练习的语言会退化：请确认回放中有该语言的数据，并且用它的验证集评测。",
            )
            raised.append(Flag(measure="language", level="flag", found=said, advice=advice))
    return raised
