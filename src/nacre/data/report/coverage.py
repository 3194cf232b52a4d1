"""Coverage: which share of the domains in a list, or of the fields of earlier rows, the rows reach.

A domain is reached by a row in which one of its terms stands. Fields of earlier rows are clusters (TF-IDF, mini-batch
k-means, Sculley 2010); a row reaches the nearest one if it is no further from its centre than 95 % of its own rows.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ahocorasick
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.preprocessing import normalize

from nacre.base.errors import InputError
from nacre.data.encoding import BAD_BYTES, open_bytes, sniff
from nacre.data.report.records import Coverage, Field, Flag, Said
from nacre.data.report.sample import Kept, Look
from nacre.data.report.words import shown, tfidf

WANTED = 0.9
MAX_CLUSTERS = 16
ROWS_PER_CLUSTER = 40
MIN_ROWS = 2 * ROWS_PER_CLUSTER
_INSIDE = 0.05  # a cluster's own rows that lie outside of it
_NAMED_BY = 3
_SHOWN = 6
_LATIN = re.compile(r"[0-9A-Za-z\u00c0-\u024f]")


def read_domains(path: Path) -> dict[str, tuple[str, ...]]:
    """Domains and their terms: a line each, ``name`` or ``name: term, term``; ``#`` starts a comment.

    Raises:
        InputError: the file is not there or names nothing.
    """
    with open_bytes(path) as file:
        text = file.read().decode(sniff(path).codec, BAD_BYTES)
    found: dict[str, tuple[str, ...]] = {}
    for line in text.lstrip("\ufeff").splitlines():
        name, _, listed = line.partition("#")[0].replace("：", ":").partition(":")
        if name := name.strip():
            terms = [term.strip() for term in re.split("[,，、;；]", listed)]
            found[name] = tuple(dict.fromkeys((*found.get(name, (name,)), *filter(None, terms))))
    if not found:
        fix = "write a domain a line: name, or name: term, term"
        raise InputError("the list of domains is empty", where=str(path), fix=fix)
    return found


class Domains:
    """Counts the rows that speak of each domain, in one pass over each text."""

    def __init__(self, domains: Mapping[str, Sequence[str]]) -> None:
        self._rows: Counter[str] = Counter(dict.fromkeys(domains, 0))
        self._looked = self._outside = 0
        by_term: dict[str, list[str]] = {}
        for name, terms in domains.items():
            for term in terms:
                by_term.setdefault(term.lower(), []).append(name)
        self._terms: Any = ahocorasick.Automaton()
        for term, names in by_term.items():
            self._terms.add_word(term, (len(term), tuple(names)))
        self._terms.make_automaton()

    def look(self, look: Look) -> None:
        """One more row."""
        text, found = look.text.lower(), set[str]()
        for end, (length, names) in self._terms.iter(text):
            if _apart(text, end + 1 - length, end + 1):
                found.update(names)
        self._looked += 1
        self._outside += not found
        self._rows.update(found)

    def result(self) -> Coverage:
        """The share of the domains that some row speaks of."""
        fields = tuple(Field(name=name, rows=rows) for name, rows in self._rows.items())
        share = sum(field.rows > 0 for field in fields) / len(fields)
        return Coverage(of="domains", share=share, fields=fields, looked=self._looked, outside=self._outside)


def _apart(text: str, start: int, stop: int) -> bool:
    """Latin terms must be words of their own."""
    before, after = text[max(0, start - 1) : start], text[stop : stop + 1]
    return not (_LATIN.match(before) and _LATIN.match(text[start])) and not (
        _LATIN.match(after) and _LATIN.match(text[stop - 1])
    )


def clusters(new: Sequence[Kept], earlier: Sequence[Kept], seed: int = 0) -> Coverage:
    """The share of clusters of the earlier rows that the new rows reach; unknown where either has too few rows."""
    count = min(MAX_CLUSTERS, len(earlier) // ROWS_PER_CLUSTER)
    fitted = tfidf([kept.text for kept in (*earlier, *new)]) if new and len(earlier) >= MIN_ROWS else None
    if fitted is None:
        return Coverage()
    vectoriser, vectors = fitted
    old, fresh = vectors[: len(earlier)], vectors[len(earlier) :]
    means = MiniBatchKMeans(count, random_state=seed, n_init=3).fit(old)
    centres = normalize(means.cluster_centers_)
    likeness = np.asarray(old @ centres.T)
    own = likeness.argmax(axis=1)
    bounds = [np.quantile(likeness[own == k, k], _INSIDE) if (own == k).any() else np.inf for k in range(count)]
    near = np.asarray(fresh @ centres.T)
    nearest = near.argmax(axis=1)
    inside = near.max(axis=1) >= np.asarray(bounds)[nearest]
    names = vectoriser.get_feature_names_out()
    row_counts = np.asarray((old > 0).sum(axis=0)).ravel()
    telling = centres - centres.mean(axis=0)  # words that every row of a task has, such as its instruction, name none
    called = _named([shown(names, telling[k], row_counts, 2 * _NAMED_BY) for k in range(count)])
    fields = [
        Field(
            name=called[k],
            rows=int((inside & (nearest == k)).sum()),
            earlier=int((own == k).sum()),
        )
        for k in range(count)
        if (own == k).any()
    ]
    fields.sort(key=lambda field: (-field.earlier, field.name))
    share = sum(field.rows > 0 for field in fields) / len(fields)
    return Coverage(
        of="clusters", share=share, fields=tuple(fields), looked=len(new), outside=int(len(new) - inside.sum())
    )


def _named(terms: Sequence[Sequence[str]]) -> list[str]:
    """A name for each cluster out of its terms, the most telling first; no two have the same."""
    found: list[str] = []
    for number, told in enumerate(terms, 1):
        parts = (told[start : start + _NAMED_BY] for start in range(max(1, len(told) - _NAMED_BY + 1)))
        names = (" · ".join(part) for part in parts if part)
        found.append(next((name for name in names if name not in found), f"cluster {number}"))
    return found


def flags(found: Coverage) -> list[Flag]:
    """Whether a tenth or more of the fields is not reached."""
    if found.share is None or found.share > WANTED:
        return []
    missing = [field.name for field in found.fields if not field.rows]
    reached = len(found.fields) - len(missing)
    listed, more = "; ".join(missing[:_SHOWN]), len(missing) - _SHOWN
    listed_en = listed + (f" and {more} more" if more > 0 else "")
    listed_zh = listed + (f" 等 {len(missing)} 个" if more > 0 else "")
    if found.of == "domains":
        said = Said(
            en=f"{reached} of {len(found.fields)} domains are reached ({found.share:.0%}); above 90% is wanted.",
            zh=f"{len(found.fields)} 个领域中覆盖了 {reached} 个（{found.share:.0%}）；应高于 90%。",
        )
        advice = Said(en=f"Collect rows about: {listed_en}.", zh=f"请补充以下领域的数据：{listed_zh}。")
    else:
        said = Said(
            en=f"The rows reach {reached} of {len(found.fields)} fields of the earlier data ({found.share:.0%}); "
            "above 90% is wanted.",
            zh=f"新数据触及早期数据 {len(found.fields)} 个领域中的 {reached} 个（{found.share:.0%}）；应高于 90%。",
        )
        advice = Said(
            en=f"Not reached: {listed_en}. These skills live from the protections alone: keep replay on, or add rows "
            "if the increment is meant to refresh them.",
            zh=f"未触及：{listed_zh}。这些能力只能靠防遗忘保护来维持：请保留回放；若本增量意在更新它们，请补充数据。",
        )
    return [Flag(measure="coverage", level="flag", found=said, advice=advice)]
