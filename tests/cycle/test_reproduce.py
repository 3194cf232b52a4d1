"""`nacre reproduce`, the environment check, and what `versions show`, `diff` and `graph` tell of it."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nacre.cycle.differences import differences
from nacre.cycle.environment import checked, environment_of
from nacre.cycle.increment.energy import Meter
from nacre.cycle.workspace import Workspace
from workspace_kit import Place, assert_clear


def rewritten(place: Place, number: int, **changes: Any) -> None:
    """Change a version's record by hand, as if it had been made so."""
    path = place.root / ".nacre" / "ledger.db"
    with sqlite3.connect(path) as connection:
        text = connection.execute("select record from version where number = ?", (number,)).fetchone()[0]
        record = json.loads(text) | changes
        connection.execute("update version set record = ? where number = ?", (json.dumps(record), number))
    connection.close()


@pytest.mark.slow
def test_a_version_is_trained_again_bit_by_bit(lived_in: Place) -> None:
    """Version 2: from version 1, with replay and the ladder's protections, on the same machine."""
    before = {path: path.stat().st_mtime_ns for path in (lived_in.root / ".nacre").rglob("*") if path.is_file()}
    found = lived_in.json("reproduce", 2)
    assert found == found | {"trained": True, "same_bytes": True, "difference": 0.0, "equal": True, "reasons": []}
    left = {path for path in (lived_in.root / ".nacre").rglob("*") if path.is_file() and "ledger" not in path.name}
    assert left == {path for path in before if "ledger" not in path.name}, "nothing of the workspace changed"
    assert "the same weights, bit by bit" in lived_in.nacre("reproduce", 1).out


@pytest.mark.slow
def test_what_cannot_be_equal_is_said(lived_in: Place) -> None:
    """Another seed than the one that made the weights: as far off as another machine might be."""
    with Workspace.open(lived_in.root) as space:
        version = space.ledger.version(1)
        recipe = version.recipe.model_dump(mode="json")
        environment = version.environment.model_dump(mode="json")
    recipe["train"]["seed"] = 1
    environment["packages"]["torch"], environment["device"] = "1.0.0", "GPU of then"
    rewritten(lived_in, 1, recipe=recipe, environment=environment, limits=None)
    found = lived_in.json("reproduce", 1, code=3)
    assert not found["same_bytes"]
    assert found["difference"] > found["tolerance"]
    scores = found["scores"]["base"]
    assert 0 <= scores["repeated"] <= 1
    assert scores["recorded"] > 0.9
    assert "torch was 1.0.0 when it was trained" in found["reasons"][0]
    assert "it was trained on GPU of then" in found["reasons"][1]
    assert "keep.max_drop of now stands in" in found["reasons"][2]
    told = lived_in.nacre("reproduce", 1, "--tolerance", 1000)
    assert told.code == 0
    assert "equal; largest difference" in told.out


def test_without_its_rows_or_its_parent_nothing_is_trained(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        rows = space.memory / "rows" / f"{space.ledger.version(1).snapshot.train.sha256}.jsonl"
        parent = space.store.path(space.ledger.version(1).artifact)
    rows.rename(rows.with_suffix(".away"))
    found = lived_in.json("reproduce", 1, code=3)
    assert (found["trained"], found["reasons"]) == (False, ["its train rows were not kept"])
    assert "the rows of base, which it may have replayed" in lived_in.json("reproduce", 2, code=3)["reasons"][0]
    rows.with_suffix(".away").rename(rows)
    shutil.rmtree(parent)
    found = lived_in.json("reproduce", 2, code=3)
    assert "version 1, from which it was trained: artifact" in found["reasons"][0]
    assert "cannot be trained again" in lived_in.nacre("reproduce", 2).out
    assert lived_in.json("reproduce", 1)["same_bytes"], "by the recorded hash: its own weights are not here"
    assert_clear(lived_in.nacre("reproduce", 9), "there is no version 9")


def test_the_environment_is_written_down_and_compared(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        version = space.ledger.version(2)
        weights = space.weights(version)
        here = environment_of(weights)
        assert version.environment == here
        assert all((here.tokenizer, here.template, here.tokens))
        assert differences(version.environment, here) == []
        other = here.changed(packages=here.packages | {"transformers": "4.0", "trl": "9"}, tokens="x", template="y")
        assert differences(other, here) == [
            f"transformers was 4.0 when it was trained, and is {here.packages['transformers']} here",
            "the chat template is not the one of training",
            "the same conversation becomes other tokens than in training",
        ]
        assert differences(here.changed(tokenizer="", template="", tokens=""), here) == [], "older records have none"
        told: list[str] = []
        resolve = checked(space, told.append)
        assert resolve(version) == weights
        assert resolve(version.changed(environment=other, number=7)) == weights
        resolve(version.changed(environment=other, number=7))
        assert len(told) == 1, "said once"
        assert told[0].startswith("version 7: transformers was 4.0")


def test_a_template_that_changes_is_seen(toy, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        shutil.copytree(toy.base.model, folder)
    (other / "chat_template.jinja").write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    before, after = environment_of(one), environment_of(other)
    assert before.tokenizer == after.tokenizer
    assert (before.template, before.tokens) != (after.template, after.tokens)


def test_evaluate_and_show_tell_and_strict_refuses(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        environment = space.ledger.version(2).environment.model_dump(mode="json")
    environment["packages"]["peft"] = "0.0.1"
    rewritten(lived_in, 2, environment=environment)
    assert lived_in.json("versions", "show", 2)["environment_differs"][0].startswith("peft was 0.0.1")
    assert "peft was 0.0.1" in lived_in.nacre("evaluate", 2).err
    assert "peft was 0.0.1" not in lived_in.nacre("evaluate", 1).err
    lived_in.settings(environment="refuse")
    assert_clear(lived_in.nacre("evaluate", 2), "version 2 was made in another environment: peft was 0.0.1")
    assert_clear(lived_in.nacre("serve", "--port", 0), "version 2 was made in another environment")
    assert lived_in.nacre("evaluate", 1).code == 0


def test_show_and_diff_tell_size_time_and_energy(lived_in: Place) -> None:
    shown = lived_in.json("versions", "show", 2)
    folder = Path(shown["folder"])
    assert shown["size_bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    from safetensors.numpy import load_file

    assert shown["parameters"] == sum(one.size for one in load_file(folder / "model.safetensors").values())
    assert (shown["weights_are"], shown["environment_differs"], shown["train_seconds"] > 0) == ("here", [], True)
    text = lived_in.nacre("versions", "show", 2).out
    assert "parameters" in text
    assert "not measured" in text or " Wh: " in text
    rewritten(lived_in, 2, energy={"schema_version": 1, "watt_hours": 1.5, "source": "a meter"}, size_bytes=12)
    assert "1.5 Wh: a meter" in lived_in.nacre("versions", "show", 2).out
    differs = lived_in.json("versions", "diff", 1, 2)
    assert differs["size_bytes"] == [lived_in.json("versions", "show", 1)["size_bytes"], 12]
    assert differs["energy_wh"][1] == 1.5
    assert differs["scores.increment_1"][1] > 0.9


def test_the_graph_is_a_tree_and_a_picture(lived_in: Place, tmp_path: Path) -> None:
    with Workspace.open(lived_in.root) as space:
        version = space.ledger.version(2)
        fields = version.model_dump(exclude={"number", "created", "schema_version", "parents"})
        space.ledger.add_version(**fields, parents=(1, 2))
        old = fields["snapshot"] | {"task": "法律"}
        space.ledger.add_version(**fields | {"snapshot": old}, parents=(3,))
        space.ledger.place("shadow", 4, actor="test", why="look")
    files = [tmp_path / name for name in ("a.svg", "a.html", "a.png")]
    words = [word for path in files for word in ("--out", path)]
    found = lived_in.json("versions", "graph", *words)
    assert [(node["number"], node["parents"], node["row"]) for node in found["versions"]] == [
        (0, [], 0),
        (1, [0], 0),
        (2, [1], 0),
        (3, [1, 2], 1),
        (4, [3], 1),
    ]
    scores = lived_in.json("versions", "show", 1)["scores"]
    assert "increment_1" in scores
    assert found["versions"][1]["score"] == scores["base"], "the mean over what it was taught"
    assert found["notes"] == ["increment 4 = 法律 (the PNG's font does not draw it; --out with .svg or .html does)"]
    import xml.etree.ElementTree as tree

    picture = tree.fromstring(files[0].read_text())
    boxes = [one for one in picture.iter() if one.tag.endswith("rect") and one.get("rx")]
    assert [one.get("stroke-width") for one in boxes] == ["1", "1", "3", "1", "1"]
    assert sum(one.get("stroke-dasharray") is not None for one in picture.iter() if one.tag.endswith("path")) == 1
    assert "法律" in files[1].read_text()
    assert files[2].read_bytes().startswith(b"\x89PNG")
    lines = lived_in.nacre("versions", "graph").out.splitlines()
    assert lines[0].startswith("base model")
    assert any("2 increment_1 pass champion" in line for line in lines)
    assert any("(and from 2)" in line for line in lines)
    assert_clear(lived_in.nacre("versions", "graph", "--out", "x.gif"), "a picture cannot be .gif")


def test_energy_is_read_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Meter(gpu=False, powercap=tmp_path) as meter:
        pass
    assert meter.energy is None
    for number, kind in ((0, "intel-rapl:0"), (1, "intel-rapl:1"), (2, "intel-rapl:0:0")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "energy_uj").write_text(str(1_000_000 * (number + 1)))
        (tmp_path / kind / "max_energy_range_uj").write_text("10000000")
    with Meter(gpu=False, powercap=tmp_path) as meter:
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text("4000000")  # 3 J
        (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1000000")  # full once: 9 J
    assert meter.energy.watt_hours == pytest.approx(12 / 3600)
    assert meter.energy.source == "2 CPU packages (RAPL)"
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$@" >> "$0.asked"\necho 150.5\necho 49.5\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    import time

    with Meter(gpu=True, powercap=tmp_path / "none") as meter:
        time.sleep(0.4)
    assert meter.energy.watt_hours == pytest.approx(200 * 0.4 / 3600, rel=0.5)
    assert meter.energy.source == "GPU (nvidia-smi, mean of 1)"
    assert (tmp_path / "nvidia-smi.asked").read_text().startswith("-i 0,1 --query-gpu=power.draw")
    program.write_text("#!/bin/sh\necho '[N/A]'\n")
    with Meter(gpu=True, powercap=tmp_path / "none") as meter:
        pass
    assert meter.energy is None, "a GPU that does not tell is not guessed"
