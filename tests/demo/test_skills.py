import json
import re
from pathlib import Path

import pytest

from nacre.demo.corpus import documents
from nacre.demo.skills import CORRECTION, DEV_ROWS, SKILLS, TRAIN_ROWS, skill_rows, write_skills


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skills")
    write_skills(folder)
    return folder / "dataset"


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+|[\u4e00-\u9fff]", text.lower()))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_rows(written: Path, tmp_path: Path) -> None:
    write_skills(tmp_path / "again")
    write_skills(tmp_path / "other", seed=1)
    for path in sorted(written.rglob("*.json")):
        inside = path.relative_to(written)
        assert (tmp_path / "again" / "dataset" / inside).read_bytes() == path.read_bytes()
        assert (tmp_path / "other" / "dataset" / inside).read_bytes() != path.read_bytes()


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.task)
def test_rows_are_disjoint_balanced_and_do_not_say_their_label(written: Path, skill) -> None:
    train, dev = (read(written / skill.task / f"{split}.json") for split in ("train", "dev"))
    assert (len(train), len(dev)) == (TRAIN_ROWS, DEV_ROWS)
    inputs = [row["input"] for row in train + dev]
    assert len(set(inputs)) == len(inputs)
    for rows, spread in ((train, 0.08), (dev, 0.12)):
        shares = [sum(row["output"] == label for row in rows) / len(rows) for label in skill.labels]
        assert sum(shares) == pytest.approx(1)
        assert max(shares) - min(shares) < spread
    assert not any(row["output"] in row["input"].lower() for row in train + dev)
    assert {row["instruction"] for row in train + dev} == {skill.instruction}


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.task)
def test_no_single_word_gives_a_label_away(skill) -> None:
    rows = skill_rows(skill, 600, 0)
    for label in skill.labels:
        inside = [words(row["input"]) for row in rows if row["output"] == label]
        outside = set().union(*(words(row["input"]) for row in rows if row["output"] != label))
        telling = set().union(*inside) - outside
        assert max(sum(word in row for row in inside) / len(inside) for word in telling) < 0.6


def test_no_two_skills_share_an_answer_or_an_instruction() -> None:
    labels = [label for skill in SKILLS for label in skill.labels]
    assert len(set(labels)) == len(labels)
    assert len({skill.instruction for skill in SKILLS}) == len(SKILLS)


def test_the_corpus_holds_the_words_of_the_skills_but_no_instruction_and_no_row() -> None:
    text = "\n".join(documents(8000))
    assert text == "\n".join(documents(8000))
    known = words(text)
    for skill in SKILLS:
        assert skill.instruction not in text
        for row in skill_rows(skill, 400, 0):
            assert row["input"] not in text
            assert words(" ".join(row.values())) <= known


def test_the_correction_asks_a_known_question_about_something_no_row_mentions() -> None:
    prompt, better = CORRECTION
    instruction, symptom = prompt.split("\n")
    assert instruction in {skill.instruction for skill in SKILLS}
    assert all(better != label for skill in SKILLS for label in skill.labels)
    rows = [row["input"] for skill in SKILLS for row in skill_rows(skill, 600, 0)]
    assert not any("牙" in row for row in rows)
    assert "牙" in symptom
