"""Two increments of questions about pictures: with replay the first is kept, without it is not."""

import json
import shutil

import pytest

from nacre.cycle.versions.archive import export_version
from nacre.cycle.workspace import Workspace
from picture_kit import Seer, see_place, write_pictures
from workspace_kit import Place, assert_clear

REPLAY = [{"name": "replay", "share": 0.4}]


@pytest.fixture(scope="module")
def seen(seer: Seer, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace that learned the colours of shapes: version 1."""
    place = see_place(seer, tmp_path_factory.mktemp("eyes"), keep={"max_drop": 0.1}, protect="none")
    write_pictures(place.dataset, "colours", "colour", seed=1)
    write_pictures(place.dataset, "shapes", "shape", seed=2)
    first = place.json("evolve", "colours")
    assert first["promoted"], first
    return place


@pytest.fixture
def eyes(seen: Place, tmp_path) -> Place:
    shutil.copytree(seen.root, tmp_path / "eye")
    return Place(tmp_path / "eye")


def score(place: Place, version: int, task: str) -> float:
    found = place.json("matrix", version)
    return found["cells"][-1][found["tasks"].index(task)]


def test_with_replay_the_first_picture_task_is_kept(eyes: Place) -> None:
    assert score(eyes, 1, "colours") >= 0.9
    eyes.settings(protect=REPLAY)
    found = eyes.json("evolve", "shapes")
    assert found["verdict"] == "pass", found
    assert found["promoted"]
    assert score(eyes, 2, "shapes") >= 0.8
    assert score(eyes, 2, "colours") >= score(eyes, 1, "colours") - 0.1
    assert any("rows of past tasks (colours " in note for note in found["notes"]["training"])


@pytest.mark.slow
def test_auto_keeps_the_first_picture_task_where_few_rows_may_be_kept(seer: Seer, tmp_path) -> None:
    place = see_place(seer, tmp_path, keep={"max_drop": 0.1, "data": 0.05}, protect="auto")
    for seed, (name, ask) in enumerate((("colours", "colour"), ("shapes", "shape")), 1):
        write_pictures(place.dataset, name, ask, seed=seed)
        found = place.json("evolve", name)
        assert found["verdict"] == "pass", found
        assert any("an adapter of its own" in note for note in found["notes"]["training"])
    assert score(place, 2, "colours") >= score(place, 1, "colours") - 0.1
    assert score(place, 1, "colours") >= 0.9
    assert score(place, 2, "shapes") >= 0.35  # a fourth is chance


@pytest.mark.slow
def test_without_replay_the_first_picture_task_is_lost(eyes: Place) -> None:
    found = eyes.json("evolve", "shapes", code=3)
    assert found["verdict"] == "fail"
    assert score(eyes, 2, "shapes") >= 0.8
    assert score(eyes, 2, "colours") <= score(eyes, 1, "colours") - 0.3


@pytest.mark.slow
def test_pictures_are_kept_for_replay_and_forgotten_with_their_rows(eyes: Place) -> None:
    shutil.rmtree(eyes.dataset / "colours" / "pictures")  # only the memory has them now
    eyes.settings(protect=REPLAY)
    eyes.json("evolve", "shapes")
    images = eyes.root / ".nacre" / "memory" / "images"
    before = {path.name for path in images.iterdir()}
    rows = [json.loads(line) for path in (images.parent / "rows").glob("*.jsonl") for line in path.open()]
    assert before == {name for row in rows for name in row.get("images") or ()}
    gone = rows[0]
    found = eyes.json("data", "forget", "--pattern", gone["images"][0])
    assert found["rows"] >= 1
    assert before - {path.name for path in images.iterdir()} == set(gone["images"])
    assert any("pictures that no kept row has" in line for line in found["left"])
    eyes.nacre("gc")
    assert {path.name for path in images.iterdir()} == before - set(gone["images"])


@pytest.mark.slow
def test_an_archive_carries_the_pictures_of_its_rows(eyes: Place, seer: Seer, tmp_path) -> None:
    with Workspace.open(eyes.root) as space:
        export_version(space, 1, tmp_path / "v1.tar", with_rows=True)
    other = see_place(seer, tmp_path / "other", keep={"max_drop": 0.1})
    other.json("versions", "import", tmp_path / "v1.tar")
    images = [{path.name for path in (place.root / ".nacre/memory/images").iterdir()} for place in (eyes, other)]
    assert images[0] == images[1] != set()
    assert other.json("versions", "judge", 1)


def test_pictures_on_a_model_of_texts_are_refused_before_training(fresh: Place) -> None:
    write_pictures(fresh.dataset, "colours", "colour", train=24, dev=8)
    assert_clear(fresh.nacre("evolve", "colours"), "rows have pictures", "the model reads texts only")
    assert fresh.json("versions", "list")["versions"] == []
