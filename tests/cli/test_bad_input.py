"""Wrong input ends with one clear error: what, where, what to do; nothing is trained, nothing half-written."""

import json
from pathlib import Path

import pytest

from workspace_kit import Outcome, Place, assert_clear, rows, write_lines

TRAIN = "dataset/base/train.json"


def untouched(place: Place) -> bool:
    """Whether no version, no artifact and no unfinished run is there."""
    hidden = place.root / ".nacre"
    return not place.json("versions", "list")["versions"] and not list(hidden.glob("artifacts/*")) + list(
        hidden.glob("runs/*")
    )


def evolve_with(place: Place, text: str | bytes) -> Outcome:
    """`nacre evolve base` with these bytes as train.json."""
    path = place.root / TRAIN
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return place.nacre("evolve", "base")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", (TRAIN,)),
        ("[]", (TRAIN,)),
        ('[{"instruction": "a", "output": "b"}, {"instruction": "c", "outp', (TRAIN, "line 1")),
        ('{"instruction": "a", "output": "b"}\n' * 9 + '{"instruction": "c", "outp', (TRAIN, "line 10")),
        ('{"question": "a", "reply": "b"}\n' * 9, (TRAIN, "question")),
        ('{"instruction": "a"}\n' * 9, (TRAIN, "line 1")),
        ('{"instruction": "a", "output": null}\n' * 9, (TRAIN, "line 1", "null")),
        (b"\x00\xff\xfe" * 40, (TRAIN,)),
    ],
    ids=["empty", "no rows", "cut array", "cut line", "unknown columns", "no answer", "null answers", "no text"],
)
def test_unusable_data_is_named_by_file_and_line(fresh: Place, text: str | bytes, parts: tuple[str, ...]) -> None:
    assert_clear(evolve_with(fresh, text), *parts)
    assert untouched(fresh)


def test_null_answers_within_the_budget_are_left_out_and_set_aside(fresh: Place) -> None:
    good = rows("paint")[80:180]
    write_lines(fresh.root / TRAIN, [*good, {**good[0], "output": None}])
    assert fresh.nacre("evolve", "base", "--promote", "never").code == 0
    found = fresh.json("versions", "show", 1)["snapshot"]
    assert [(Path(row["file"]).name, row["line"]) for row in found["dropped"]] == [("train.json", 101)]
    assert "1 of 181 rows cannot be used (0.6%)" in found["notes"][0]
    aside = (fresh.root / ".nacre" / "memory" / "dropped" / "base.jsonl").read_text()
    assert json.loads(aside)["line"] == 101
    fresh.settings(data={"drop_budget": 0.001})
    assert_clear(fresh.nacre("evolve", "base", "--from", 0), "the budget is 0.1%", "line 101", "drop_budget")


def test_a_gbk_file_is_converted_and_said(fresh: Place) -> None:
    text = "".join(
        json.dumps({"instruction": row["instruction"], "output": "红色" if place % 2 else "绿色"}, ensure_ascii=False)
        + "\n"
        for place, row in enumerate(rows("paint")[80:140])
    )
    found = evolve_with(fresh, text.encode("gbk"))
    assert found.code == 0, found
    assert "read as GB18030 and converted to UTF-8" in found.out
    checked = fresh.json("data", "check", TRAIN)
    assert (checked["encoding"].lower(), checked["usable"]) == ("gb18030", 60)


def test_data_check_says_what_evolve_would_say(fresh: Place) -> None:
    assert fresh.nacre("data", "check", "--dataset", "base").code == 0
    write_lines(fresh.root / TRAIN, [{"question": "a"}])
    assert fresh.nacre("data", "check", TRAIN).code == 1
    assert "train.json" in fresh.json("data", "check", TRAIN, code=1)["problems"][0]["file"]
    assert_clear(fresh.nacre("data", "check", "nowhere.json"), "there is no such file or folder", "nowhere.json")
    assert_clear(fresh.nacre("data", "check"), "name one thing to check")
    assert_clear(fresh.nacre("data", "check", "--dataset", "bass"), "did you mean 'base'?")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("evolve", "bass"), ("unknown dataset 'bass'", "did you mean 'base'?")),
        (("evolve", "base", "--promot", "never"), ("unknown option '--promot'", "did you mean '--promote'?")),
        (("evolve", "base", "--promote", "sometimes"), ("nacre evolve", "--promote")),
        (("evolve", "base", "--from", "-1"), ("nacre evolve", "--from")),
        (("evolve", "base", "--from"), ("'--from' requires an argument",)),
        (("evolve",), ("increment", "see nacre evolve --help")),
        (("evolve", "base", "more"), ("nacre evolve", "more")),
        (("evolv", "base"), ("unknown verb 'evolv'", "did you mean 'evolve'?")),
        (("versions", "lst"), ("'lst'", "list")),
        (("--verbose",), ("unknown option '--verbose'",)),
    ],
)
def test_misspelt_words_are_answered_with_the_nearest(
    fresh: Place, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_clear(fresh.nacre(*words), *parts)


def test_errors_are_json_where_json_is_asked_for(fresh: Place) -> None:
    for words, part in (
        (("evolve", "bass"), "unknown dataset"),
        (("evolve", "base", "--promot", "x"), "unknown option"),
        (("rollback",), "no earlier champion"),
    ):
        found = fresh.json(*words, code=2)
        assert set(found["error"]) == {"what", "where", "fix"}
        assert part in found["error"]["what"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model: MODEL\ntrian:\n  epochs: 1\n", ("unknown key 'trian'", "line 2", "did you mean 'train'?")),
        ("model: MODEL\ntrain:\n  seed: 1\n  epoch: 2\n", ("'train.epoch'", "line 4", "did you mean 'epochs'?")),
        ("model: MODEL\ntrain:\n  epochs: many\n", ("'train.epochs'", "line 3", "many")),
        ("model: MODEL\ntune:\n  name: lora\n  ranks: 4\n", ("'tune.ranks'", "line 4", "did you mean 'rank'?")),
        ("model: MODEL\ntune: loro\n", ("tune", "line 2", "lora")),
        ("model: MODEL\nprotect: [reply]\n", ("unknown protection 'reply'", "protect[0]", "did you mean 'replay'?")),
        ("model: MODEL\nprotect:\n- {name: replay, shares: 1}\n", ("'shares'", "did you mean 'share'?")),
        ("model: MODEL\nkeep: {max_drop: little}\n", ("'keep.max_drop'", "line 2", "little")),
        ("train:\n  epochs: 1\n", ("the key 'model' is missing", "nacre.yaml", "add model")),
        ("model: MODEL\n  train: 1\n", ("not valid YAML", "line 2")),
        ("- model\n", ("key: value",)),
        ("", ("the key 'model' is missing",)),
        ("model: /nowhere/at-all\n", ("the model path does not exist", "/nowhere/at-all")),
        ("model: somebody/some-model\n", ("neither a folder nor in the local hub cache", "hf download")),
    ],
)
def test_a_wrong_nacre_yaml_is_named_by_line_and_nearest_key(fresh: Place, text: str, parts: tuple[str, ...]) -> None:
    path = fresh.root / "nacre.yaml"
    model = path.read_text().split("model: ")[1].split("\n")[0]
    path.write_text(text.replace("MODEL", model))
    assert_clear(fresh.nacre("evolve", "base"), *parts)
    assert not list((fresh.root / ".nacre").glob("artifacts/*"))


@pytest.mark.parametrize(
    "words",
    [
        ("evolve", "base"),
        ("matrix",),
        ("evaluate",),
        ("versions", "list"),
        ("versions", "show", "1"),
        ("promote", "1"),
        ("rollback",),
        ("verify",),
        ("serve",),
        ("harvest",),
    ],
)
def test_without_a_workspace_every_verb_says_so(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert_clear(Place(tmp_path).nacre(*words), "nacre.yaml is missing", str(tmp_path), "nacre init")
    assert not list(tmp_path.iterdir())


def test_init_refuses_what_cannot_work_and_writes_nothing(fresh: Place, tmp_path: Path) -> None:
    outside = Place(tmp_path)
    model = fresh.root / "nacre.yaml"
    (tmp_path / "models" / "llama").mkdir(parents=True)
    assert_clear(outside.nacre("init", "new", "--model", "models/lama"), "did you mean", "models/llama'?")
    assert_clear(outside.nacre("init", "new", "--model", "models/llama"), "config.json is missing")
    assert_clear(outside.nacre("init", "fresh", "--model", str(tmp_path)), "config.json is missing")
    assert_clear(outside.nacre("init", "new"), "--model")
    assert not (tmp_path / "new").exists()
    path = model.read_text().split("model: ")[1].split("\n")[0]
    made = outside.json("init", "another", "--model", path)
    assert made == {"workspace": str(tmp_path / "another"), "model": path}
    assert_clear(outside.nacre("init", "fresh", "--model", path), "there is a workspace already", "nacre.yaml")
    assert_clear(outside.nacre("init", "fresh/nacre.yaml", "--model", path), "fresh/nacre.yaml", code=1)
