"""What an archive says of itself: told, and believed nowhere; a version is proved where it is used."""

import json
from pathlib import Path

from test_archive import archives, edited, members, nothing_there, other, packed, plain, whole

from nacre.cycle.workspace import Workspace
from nacre.registry.archive import LIST
from workspace_kit import Place, assert_clear

__all__ = ["archives", "other"]


def _poisoned(path: Path, archive: Path, against: str) -> Path:
    """Weights that were overwritten with zeros, under their right hash, with the scores and verdict of good ones."""
    import hashlib

    from nacre.base.hashing import canonical_json, sha256_text

    held = members(archive)
    told, old = held[0][1].decode(), json.loads(held[0][1])["told"]["version"]["artifact"]
    rest, files = [], {}
    for member, data in held[1:]:
        zeroed = data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2)
        rest.append((member.name, zeroed if member.name.endswith("model.safetensors") else data))
        if member.name.startswith(f"artifacts/{old}/"):
            files[member.name.split("/", 2)[2]] = hashlib.sha256(rest[-1][1]).hexdigest()
    new = sha256_text(canonical_json(files))
    head = json.loads(told.replace(old, new))
    head["told"]["against"] = against
    named = [plain(name.replace(old, new), data) for name, data in rest]
    head["members"] = {
        member.name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for member, data in named
    }
    return packed(path, [plain(LIST, json.dumps(head).encode()), *named])


def test_what_an_archive_says_of_itself_makes_no_champion(
    lived_in: Place, archives: dict[str, Path], tmp_path: Path
) -> None:
    champion = lived_in.json("versions", "show", 2)["artifact"]
    path = _poisoned(tmp_path / "poisoned.tar.gz", archives["rows"], champion)
    assert lived_in.json("versions", "import", path)["version"] == 3
    assert_clear(lived_in.nacre("promote", 3), "never judged", "nacre versions judge 3")
    assert lived_in.champion() == 2
    assert lived_in.json("versions", "judge", 3, code=3)["verdict"] == "fail"
    assert_clear(lived_in.nacre("promote", 3), "the gate did not pass version 3: fail")


def test_reports_on_other_weights_are_refused(other: Place, archives: dict[str, Path], tmp_path: Path) -> None:
    held = members(archives["bare"])
    edited(lambda head: head["told"]["reports"][0].update(weights="f" * 64))(held)
    found = other.nacre("versions", "import", packed(tmp_path / "forged.tar.gz", held))
    assert_clear(found, "is about other weights than it holds")
    assert nothing_there(other)


def test_an_imported_version_is_proved_here_and_then_promoted(other: Place, archives: dict[str, Path]) -> None:
    other.json("versions", "import", archives["rows"])
    assert_clear(other.nacre("versions", "import", archives["rows"]), "it was imported already, as version 1")
    assert other.json("versions", "judge", 1)["verdict"] == "pass"
    assert other.json("promote", 1)["detail"]["to"] == 1
    assert_clear(other.nacre("versions", "judge", 1), "cannot be judged against itself")
    assert whole(other)


def test_an_archive_does_not_choose_the_rows_it_is_judged_by(
    lived_in: Place, archives: dict[str, Path], tmp_path: Path
) -> None:
    from nacre.cycle.scores.judging import judge_version
    from nacre.cycle.scores.scoring import Scorer
    from nacre.data.rows import read_rows, write_rows
    from nacre.records import Lineage

    with Workspace.open(lived_in.root) as space:
        good = space.ledger.version(2)
        dev = space.ledger.version(1).snapshot.dev
        easy = write_rows(space.memory, read_rows(space.memory, dev)[:5])
        fields = good.model_dump(exclude={"number", "created", "schema_version", "parents", "inherited", "origin"})
        line = (Lineage(task="base", train=space.ledger.version(1).snapshot.train, dev=easy),)
        kept = {"snapshot": good.snapshot, "recipe": good.recipe}
        added = space.ledger.add_version(**fields | kept, inherited=line, origin={"version": "9", "archive": "x"})
        judged = judge_version(space, Scorer(space), added, 2)
        assert next(task for task in judged.verdict.tasks if task.task == "base").rows_of == dev.rows
        assert "base: judged by the champion's dev rows, not by those that an archive brought" in judged.notes


def test_another_base_model_in_the_archive_leaves_no_folder(
    other: Place, archives: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "model" / "extra.txt").write_text("another model")
    found = other.nacre("versions", "import", archives["base"], "--base-to", tmp_path / "new")
    assert_clear(found, "was made from another base model")
    assert not (tmp_path / "new").exists()
