"""Drift: how far the rows are from those that were learned before, in two ways.

A classifier is asked to tell new rows from earlier ones (classifier two-sample test, Lopez-Paz and Oquab 2017). Its
area under the ROC curve is 0.5 where nobody could and 1 where every row gives itself away. It is logistic regression
over TF-IDF of words and pairs of Chinese characters, cross-validated in five folds; AUC and its variance (DeLong et al.
1988) are taken inside each fold, whose scores have a scale of their own, and averaged.

The Jensen-Shannon divergence (Lin 1991) compares the frequencies of the terms, 0 bits alike to 1 bit nothing in common.
Two samples of the same text differ too: what chance makes of these sizes is told by dealing all rows out anew.

It measures the text, not what the model knows: a low figure says that the words are known, not that the answers are.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from nacre.data.report.records import Drift, Flag, Said
from nacre.data.report.sample import Kept
from nacre.data.report.words import shown, terms, tfidf

MIN_ROWS = 30
_FOLDS = 5
_DEALS = 20
BOUNDS = (0.6, 0.75, 0.95)  # of AUC, between same, near, other and far
_TERMS = 12
_FEATURES = 20_000

Values = NDArray[np.float64]


def measure(new: Sequence[Kept], earlier: Sequence[Kept], seed: int = 0) -> Drift:
    """Compare two samples; without `MIN_ROWS` on either side nothing is known."""
    sizes = (len(new), len(earlier))
    texts = [kept.text for kept in (*new, *earlier)]
    fitted = tfidf(texts) if min(sizes) >= MIN_ROWS else None
    if fitted is None:
        return Drift(sampled=sizes)
    vectoriser, vectors = fitted
    is_new = np.arange(len(texts)) < len(new)
    auc, deviation = _told_apart(vectors, is_new, seed)
    # without one mistake the variance is 0: as 0 of n leaves up to 3/n open, so do the rows of the smaller side
    reach = float(norm.ppf(0.975)) * deviation or 3 / min(sizes)
    whole = LogisticRegression(C=10, max_iter=300).fit(vectors, is_new).coef_[0]
    names = vectoriser.get_feature_names_out()
    counted = [np.asarray((vectors[side] > 0).sum(axis=0)).ravel() for side in (is_new, ~is_new)]
    js, chance = _divergences(texts, is_new, seed)
    return Drift(
        auc=round(auc, 4),
        interval=(round(max(0.0, auc - reach), 4), round(min(1.0, auc + reach), 4)),
        js=round(js, 4),
        js_chance=round(chance, 4),
        level=_level(auc, auc - reach),
        terms=shown(names, whole, counted[0], _TERMS),
        earlier_terms=shown(names, -whole, counted[1], _TERMS),
        sampled=sizes,
    )


def _level(auc: float, low: float) -> Literal["same", "near", "other", "far"]:
    near, other, far = BOUNDS
    if low <= 0.5 or auc < near:
        return "same"
    if auc < other:
        return "near"
    return "other" if auc < far else "far"


def _told_apart(vectors: Any, is_new: NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """Cross-validated AUC and its standard deviation."""
    areas, variances = [], []
    for train, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(vectors, is_new):
        model = LogisticRegression(C=10, max_iter=300, class_weight="balanced").fit(vectors[train], is_new[train])
        scores = model.decision_function(vectors[test])
        area, variance = delong(scores[is_new[test]], scores[~is_new[test]])
        areas.append(area)
        variances.append(variance)
    return float(np.mean(areas)), float(np.sqrt(np.sum(variances)) / _FOLDS)


def delong(positive: Values, negative: Values) -> tuple[float, float]:
    """Area under the ROC curve and its variance (DeLong et al. 1988) from the scores of either class."""
    wins = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    by_positive, by_negative = wins.mean(axis=1), wins.mean(axis=0)
    variance = by_positive.var(ddof=1) / len(positive) + by_negative.var(ddof=1) / len(negative)
    return float(wins.mean()), float(variance)


def _divergences(texts: Sequence[str], is_new: NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """The divergence of the two sides, and its mean over sides of the same sizes dealt at random."""
    counts = CountVectorizer(analyzer=terms, max_features=_FEATURES).fit_transform(texts)
    draw = np.random.default_rng(seed)
    by_chance = [_divergence(counts, draw.permutation(is_new)) for _ in range(_DEALS)]
    return _divergence(counts, is_new), float(np.mean(by_chance))


def _divergence(counts: Any, side: NDArray[np.bool_]) -> float:
    first, second = (np.asarray(counts[rows].sum(axis=0), dtype=np.float64).ravel() for rows in (side, ~side))
    return jensen_shannon(first, second)


def jensen_shannon(first: Values, second: Values) -> float:
    """Jensen-Shannon divergence of two lists of counts, in bits."""
    p, q = (counts / max(counts.sum(), 1.0) for counts in (first, second))
    middle = (p + q) / 2
    return float(sum(0.5 * np.sum(part[part > 0] * np.log2(part[part > 0] / middle[part > 0])) for part in (p, q)))


MEANING = {
    "same": Said(
        en="New and earlier rows cannot be told apart: the increment repeats known ground.",
        zh="新旧数据无法区分：本增量重复的是已知内容。",
    ),
    "near": Said(
        en="Rows are a little different from earlier ones: forgetting is unlikely.",
        zh="新数据与早期数据略有不同：不大会引起遗忘。",
    ),
    "other": Said(
        en="Most rows can be told from earlier ones: the increment teaches something new, and protections matter.",
        zh="多数新数据可与早期数据区分：本增量在教新东西，防遗忘保护很重要。",
    ),
    "far": Said(
        en="Nearly every row can be told from earlier ones: another field, or another way of writing.",
        zh="几乎每一行都可与早期数据区分：属于另一领域，或另一种写法。",
    ),
}


def flags(found: Drift) -> list[Flag]:
    """Whether the rows are far from the earlier ones, or not different at all."""
    if found.level not in ("far", "same") or found.auc is None or found.interval is None:
        return []
    low, high = found.interval
    figures = f"AUC {found.auc:.2f} [{low:.2f}, {high:.2f}]"
    said = Said(en=f"{MEANING[found.level].en} {figures}.", zh=f"{MEANING[found.level].zh}{figures}。")
    if found.level == "far":
        advice = Said(
            en="Expect forgetting: leave the protections on (protect: auto), mix earlier or general rows in, and let "
            "the gate decide. If only the layout differs, bring the rows into the earlier one.",
            zh="遗忘风险高：请保持保护（protect: auto），混入早期或通用数据，由门禁裁决。若只是格式不同，请统一格式。",
        )
        return [Flag(measure="drift", level="flag", found=said, advice=advice)]
    advice = Said(
        en="Check that the increment brings something new before spending a training on it.",
        zh="请先确认本增量确有新内容，再投入训练。",
    )
    return [Flag(measure="drift", level="note", found=said, advice=advice)]
