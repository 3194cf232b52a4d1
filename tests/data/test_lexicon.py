"""Terms of a domain: how telling a word is, which ones are found, and what a list of terms may look like."""

from pathlib import Path

import pytest
from scipy.stats import chi2_contingency

from nacre.base.errors import InputError
from nacre.data import lexicon
from nacre.data.lexicon import find_terms, keyness, read_terms

DOMAIN = [f"患者有高血压和糖尿病，服用 metoprolol 第{place}天" for place in range(12)]
GENERAL = [f"今天我们去市场买面包，天气很好 the market is open {place}" for place in range(12)]


@pytest.mark.parametrize(("count", "other"), [(30, 4), (5, 5), (2, 9), (12, 0)])
def test_keyness_is_the_log_likelihood_ratio_of_two_frequencies(count: int, other: int) -> None:
    table = [[count, 1000 - count], [other, 800 - other]]
    ratio = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    more = count / 1000 >= other / 800
    assert keyness(count, other, 1000, 800) == pytest.approx(ratio if more else -ratio)
    assert keyness(1, 1, 0, 10) == 0


def test_words_that_the_domain_has_and_general_text_has_not_are_found() -> None:
    found = find_terms(DOMAIN, GENERAL)
    texts = [term.text for term in found.terms]
    assert {"高血压", "糖尿病", "metoprolol"} <= set(texts)
    assert not {"今天", "market", "open"} & set(texts)
    assert all(term.keyness > lexicon.KEY and term.count >= 12 for term in found.terms)
    assert [term.keyness for term in found.terms] == sorted((term.keyness for term in found.terms), reverse=True)
    assert any("fewer than the 500" in note for note in found.notes)


def test_a_word_of_few_texts_may_name_a_person_and_is_no_term() -> None:
    named = [*DOMAIN, *["欧阳娜娜 Featherstonehaugh " * 20] * 4]
    texts = {term.text for term in find_terms(named, GENERAL).terms}
    assert not {"欧阳娜娜", "欧阳", "Featherstonehaugh"} & texts


def test_terms_that_were_given_come_first_whatever_the_texts_say() -> None:
    found = find_terms(DOMAIN, GENERAL, ["市场", "metoprolol", "never heard"])
    given = {term.text: term for term in found.terms if term.given}
    assert [term.given for term in found.terms[:3]] == [True, True, True]
    assert (given["metoprolol"].count, given["metoprolol"].texts, given["metoprolol"].general) == (12, 12, 0)
    assert (given["市场"].count, given["市场"].general) == (0, 12)
    assert given["市场"].keyness < 0
    assert given["never heard"].count == 0
    assert sum(term.text == "metoprolol" for term in found.terms) == 1
    assert "3 terms were given" in found.notes[0]


def test_five_hundred_terms_are_enough() -> None:
    words = [f"term{chr(97 + a)}{chr(97 + b)}" for a in range(26) for b in range(20)]
    found = find_terms([" ".join(words)] * 20, [" ".join(["other"] * 500)] * 20)
    assert len(found.terms) == len(words) == 520
    assert len(found.notes) == 1


def test_a_list_of_terms_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("高血压\n\n  myocardial infarction \n高血压\n", encoding="utf-8")
    assert read_terms(path) == ["高血压", "myocardial infarction"]
    path.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match="cannot be read"):
        read_terms(path)
    path.write_text("\n \n")
    with pytest.raises(InputError, match="no term"):
        read_terms(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_terms(tmp_path / "none.txt")


def test_chinese_without_jieba_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: object, name: str) -> None:
        raise ModuleNotFoundError(name="jieba")

    monkeypatch.setattr(type(lexicon._WORDS), "load", missing)
    assert find_terms(["only letters here"] * 5, ["other words"]).terms is not None
    with pytest.raises(InputError, match="jieba") as refused:
        find_terms(DOMAIN, GENERAL)
    assert "pip install" in refused.value.fix
