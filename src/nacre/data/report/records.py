"""What a report says, as records: numbers, never a text that holds personal data."""

from typing import Literal

import pydantic

from nacre.records.base import Record

Level = Literal["flag", "note"]


class Said(Record):
    """A sentence in both languages of the page."""

    en: str
    zh: str


class Flag(Record):
    """What a measure found out of bounds (`flag`) or worth knowing (`note`), and what to do about it."""

    measure: str
    level: Level
    found: Said
    advice: Said


class ClassSize(Record):
    """One class: its rows, and how many times larger the largest class is."""

    name: str
    rows: int
    ratio: float


class Balance(Record):
    """Sizes of the classes. `by` is the column they were read from, ``answer`` or ``judgement``; empty: no classes.

    Attributes:
        classes: the largest first, at most `MOST_CLASSES`; `more` counts the others.
        ratio: rows of the largest class for each row of the smallest.
        outside: rows in no class.
    """

    by: str = ""
    classes: tuple[ClassSize, ...] = ()
    more: int = 0
    ratio: float | None = None
    outside: int = 0


class Field(Record):
    """A domain of the list, or a cluster of earlier rows named by its terms, with the new rows that reach it."""

    name: str
    rows: int
    earlier: int = 0


class Coverage(Record):
    """Share of domains (`of` is ``domains``) or of clusters of earlier rows (``clusters``) that rows reach.

    Attributes:
        looked: rows that were looked at; `outside`, those of them in none of the fields.
        share: None where there is neither a list nor earlier rows.
    """

    of: Literal["domains", "clusters", ""] = ""
    share: float | None = None
    fields: tuple[Field, ...] = ()
    looked: int = 0
    outside: int = 0


class Diversity(Record):
    """How much of the text is not said twice.

    Attributes:
        distinct_prompts: share of prompts that are not an earlier row's, of all rows.
        prompt_distinct, answer_distinct: Distinct-1 and -2 (Li et al. 2016) of the first `tokens` tokens of a sample.
        self_similarity: mean cosine of a sampled row and the other one nearest to it.
    """

    distinct_prompts: float | None = None
    prompt_distinct: tuple[float, float] | None = None
    answer_distinct: tuple[float, float] | None = None
    tokens: int = 0
    self_similarity: float | None = None
    sampled: int = 0


class Timeliness(Record):
    """How recent the dated rows are; a row counts by its newest date that is not in the future.

    Attributes:
        since: the first day of the last three years.
        dated, undated: rows; `from_column` of the dated ones have their date in a column.
        share: of the dated rows, since then.
        years: dated rows by year.
        future: rows whose only dates are still to come; they count as undated.
    """

    since: str
    dated: int
    undated: int
    from_column: int
    future: int
    share: float | None
    years: dict[str, int]


class Language(Record):
    """Rows by script: `zh` Chinese characters, `en` Latin letters, `mixed` both, `other`, `none` no letters."""

    rows: dict[str, int]
    earlier: dict[str, int] = pydantic.Field(default_factory=dict)


class Lengths(Record):
    """Lengths of rows in one unit: quantiles, and rows in bins that double. `bins` has the upper bounds."""

    unit: Literal["characters", "words", "tokens"]
    mean: float
    quantiles: dict[str, int]
    bins: tuple[int, ...]
    rows: tuple[int, ...]


class Length(Record):
    """Lengths of whole rows. `limit` is the length that training cuts at, `over` the rows longer than it."""

    units: tuple[Lengths, ...]
    limit: int | None = None
    over: int = 0


class Across(Record):
    """Rows that equal a row of an earlier increment."""

    name: str
    split: str
    rows: int


class Duplicates(Record):
    """Rows that stand more than once.

    Attributes:
        within: rows that equal an earlier row of the same data; `near` are like one (Jaccard from 0.8), not equal.
        across: rows that equal one of an earlier increment, by increment and split; `near_across` are like a
            train row of one, `near_dev` like a dev row.
        compared, compared_earlier: rows that others were compared with for likeness.
    """

    within: int
    near: int
    across: tuple[Across, ...]
    near_across: int
    near_dev: int = 0
    compared: int
    compared_earlier: int


class Private(Record):
    """Personal data and secrets by kind: how often, in how many rows; never what."""

    found: dict[str, int]
    rows: dict[str, int]
    any_row: int


class Drift(Record):
    """How far the rows are from the earlier ones.

    Attributes:
        auc: of a classifier that tells new rows from earlier ones, cross-validated (Lopez-Paz and Oquab 2017): 0.5 they
            cannot be told apart, 1 always. `interval` at 95 % (DeLong 1988, fold by fold).
        js: Jensen-Shannon divergence of the terms' frequencies in bits, 0 to 1; `js_chance`, what samples of one and
            the same text would show.
        level: ``same``, ``near``, ``other`` or ``far``; None where it could not be measured.
        terms, earlier_terms: words that tell new rows, and earlier ones.
    """

    auc: float | None = None
    interval: tuple[float, float] | None = None
    js: float | None = None
    js_chance: float | None = None
    level: Literal["same", "near", "other", "far"] | None = None
    terms: tuple[str, ...] = ()
    earlier_terms: tuple[str, ...] = ()
    sampled: tuple[int, int] = (0, 0)


class EarlierRows(Record):
    """Earlier rows that were compared with."""

    name: str
    split: str
    rows: int


class DataReport(Record):
    """Everything known of some rows. `dropped` counts rows that could not be read."""

    target: str
    today: str
    rows: int
    dropped: int
    earlier: tuple[EarlierRows, ...]
    balance: Balance
    coverage: Coverage
    diversity: Diversity
    timeliness: Timeliness
    language: Language
    length: Length
    duplicates: Duplicates
    private: Private
    drift: Drift
    flags: tuple[Flag, ...] = ()
    notes: tuple[Said, ...] = ()

    @property
    def flagged(self) -> frozenset[str]:
        """The measures that are out of bounds."""
        return frozenset(flag.measure for flag in self.flags if flag.level == "flag")
