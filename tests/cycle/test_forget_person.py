"""One person leaves: from the ledger, from the kept rows, and with everything named that learned from them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nacre.base.errors import InputError
from nacre.base.hashing import sha256_text
from nacre.cycle.rows.forget_person import forget, hash_of
from nacre.cycle.rows.imported_opinions import import_file
from nacre.cycle.versions import expiry
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows, write_rows
from nacre.records import ChatTurn, Environment, Example, Feedback, Interaction, Message, Origin, Recipe, Snapshot
from nacre.records.draft import FROM_FEEDBACK, Draft
from nacre.registry.usage import EXPIRED, PERSON_FORGOTTEN
from nacre.serve.routing import user_of
from workspace_kit import Place

ANN, BOB = user_of("", "ann"), user_of("", "bob")
SECRETS = ("the pearl in the drawer", "no, in the cellar")


def asked(number: int, person: str, question: str = "where?", **more: object) -> Interaction:
    given = {
        "id": f"chatcmpl-{number:024x}-{number:032x}",
        "time": "2026-05-01T00:00:00.000+00:00",
        "version": 1,
        "arm": "champion",
        "session": person,
        "messages": (ChatTurn(role="user", content=question),),
        "answer": "here",
        "finish": "stop",
    }
    return Interaction.model_validate(given | more)


def row(text: str, **extra: str | int) -> Example:
    answer = Message(role="assistant", content=text)
    return Example(
        prompt=(Message(role="user", content="where?"),), answers=(answer,), origin=Origin(task="f", extra=extra)
    )


def opinion(number: int, person: str, **more: object) -> Feedback:
    given = {"time": "2026-05-02T00:00:00.000+00:00", "interaction": asked(number, "").id, "person": person}
    return Feedback.model_validate(given | {"kind": "stars", "value": 5} | more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Ann asked twice (one answer has a twin), bob once; a version learned from what both said."""
    place = Place(tmp_path / "assistant")
    with Workspace.init(place.root, "base-model", {}) as space:
        ledger = space.ledger
        twin = asked(4, ANN, SECRETS[0], arm="shadow", twin=asked(1, "").id)
        ledger.add_interactions([asked(1, ANN, SECRETS[0]), asked(2, ANN), asked(3, BOB), twin])
        said = [
            opinion(1, ANN, kind="correction", value=None, text=SECRETS[1]),
            opinion(1, BOB),
            opinion(3, ANN),
            opinion(3, BOB, value=4),
        ]
        numbers = [ledger.add_feedback(one) for one in said]
        ledger.export_feedback(numbers[:1], "harvested", "test", {"increment": "feedback_1"})
        unsigned = asked(1, "").id.rsplit("-", 1)[0]
        rows = [
            row(SECRETS[1], interaction=unsigned, feedback=str(numbers[0]), person=ANN),
            row("by two", interaction="x", feedback=f"99,{numbers[2]}", person=BOB),
            row("bob's", interaction="x", feedback=str(numbers[3]), person=BOB),
        ]

        def fill(folder: Path) -> None:
            (folder / "config.json").write_text("{}")
            (folder / "model.safetensors").write_text("weights")

        train = write_rows(space.memory, rows)
        ledger.add_version(
            base="base-model",
            base_sha256="b" * 64,
            kind="full",
            artifact=space.store.publish(fill),
            recipe=Recipe(),
            environment=Environment(python="3.11", packages={}, machine="m", device="cpu"),
            snapshot=Snapshot(task="feedback_1", train=train, dev=None, sources={}),
            tasks=("feedback_1",),
        )
    return place


@pytest.fixture
def space(place: Place) -> Iterator[Workspace]:
    with Workspace.open(place.root) as space:
        yield space


def test_all_of_one_person_leaves_and_what_learned_from_it_is_named(place: Place) -> None:
    dry = place.json("feedback", "forget", "--user", "ann", "--dry-run")
    assert (dry["interactions"], dry["feedback"], dry["rows"]["rows"], dry["event"]) == (3, 3, 2, None)
    found = place.json("feedback", "forget", "--user", "ann", "--why", "a letter")
    assert (found["interactions"], found["feedback"], found["rows"]["rows"]) == (3, 3, 2)
    assert found["increments"] == ["feedback_1"]
    assert list(found["versions"]) == ["1"]
    assert any("trained on 2 of them: snapshot" in line for line in found["versions"]["1"])
    assert any("learned an increment made of what they said" in line for line in found["versions"]["1"])
    assert found["retrain"] == ["version 1: nacre evolve feedback_1 --from 0"]
    with Workspace.open(place.root) as space:
        (event,) = [one for one in space.ledger.events() if one.kind == PERSON_FORGOTTEN]
        assert event.id == found["event"]
        assert event.detail["deleted"] == {"interactions": 3, "feedback": 3}
        assert (event.detail["person"], event.detail["why"]) == (sha256_text(ANN), "a letter")
        assert ANN not in event.to_json()
        assert space.ledger.interaction(asked(3, "").id) is not None
        assert [(one.person, one.value) for one in space.ledger.feedback()] == [(BOB, 4)]
        assert space.ledger.usage.persons() == {BOB}
        assert [one.answer for one in read_rows(space.memory, found["rows"]["files"][0]["now"])] == ["bob's"]
        space.ledger.verify_chain()
    for path in place.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [one for one in SECRETS if one.encode() in data], f"{path} still has it"
    again = place.nacre("feedback", "forget", "--user", "ann", "--json")
    assert again.code == 2
    assert "no key names a user 'ann'" in again.out


def test_rows_that_wait_for_review_leave_too(place: Place) -> None:
    with Workspace.open(place.root) as space:
        ann = row(SECRETS[0], interaction="x", feedback="77", person=ANN)
        drafts = [
            Draft(queue="feedback_2", row=one, model=FROM_FEEDBACK, created=days_ago(0))
            for one in (ann, row("bob's own", person=BOB))
        ]
        space.ledger.drafts.add(drafts)
    found = place.json("feedback", "forget", "--user", "ann")
    assert found["rows"]["drafts"] == 1
    with Workspace.open(place.root) as space:
        assert [one.row.answer for one in space.ledger.drafts.drafts()] == ["bob's own"]
    assert SECRETS[0].encode() not in (place.root / ".nacre" / "ledger.db").read_bytes()


def test_rows_that_nobody_learned_yet_are_named(space: Workspace) -> None:
    dora = user_of("", "dora")
    space.ledger.add_interactions([asked(7, dora)])
    folder = space.dataset_dir / "feedback_3"
    folder.mkdir(parents=True)
    (folder / "train.json").write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "person": "'
        + dora
        + '"}'
    )
    found = forget(space, dora)
    assert found.rows is None
    assert any("feedback_3/train.json: line 1" in line for line in found.left)


def test_people_of_imported_files_leave_with_what_they_asked(space: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "opinions.csv"
    path.write_text("prompt,answer,stars,person\nmy secret question,hm,1,eve\n", encoding="utf-8")
    (number,) = import_file(space, path).ids
    found = forget(space, hash_of(space, "eve"))
    assert (found.interactions, found.feedback) == (1, 1)
    assert number not in {one.id for one in space.ledger.feedback()}
    assert b"my secret question" not in (space.hidden / "ledger.db").read_bytes()


def test_killed_between_rows_and_ledger_the_same_command_ends_it(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(space.ledger.usage, "forget_person", die)
        with pytest.raises(KeyboardInterrupt):
            forget(space, ANN)
    assert len(space.ledger.feedback()) == 4
    found = forget(space, ANN)
    assert (found.interactions, found.feedback, found.rows) == (3, 3, None)
    assert list(found.versions) == [1], "by the increment, although its rows have gone"
    with pytest.raises(InputError, match="nothing is kept of that person"):
        forget(space, ANN)


def test_a_name_is_looked_up_among_the_keys(space: Workspace) -> None:
    key, _ = space.ledger.keys.create("app", ["infer"])
    assert hash_of(space, "ann") == ANN
    assert hash_of(space, "ann", key.id) == user_of(key.id, "ann") != ANN
    space.ledger.add_interactions([asked(9, user_of(key.id, "ann"))])
    with pytest.raises(InputError, match="several keys") as caught:
        hash_of(space, "ann")
    assert key.id in caught.value.fix
    with pytest.raises(InputError, match="no key names a user 'zoe'"):
        hash_of(space, "zoe")
    with pytest.raises(InputError, match="no person's hash"):
        forget(space, "ann")


def test_the_command_needs_one_person(place: Place) -> None:
    for words in ((), ("--user", "ann", "--person", ANN), ("--person", ANN, "--key", "")):
        refused = place.nacre("feedback", "forget", *words)
        assert refused.code == 2
        assert "it is not said who" in refused.err


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds")


def test_gc_deletes_what_is_older_than_retention_lets_it_get(place: Place) -> None:
    with Workspace.open(place.root) as space:
        space.ledger.add_interactions([asked(5, BOB, time=days_ago(5)), asked(6, BOB, time=days_ago(1))])
        for number, days in ((5, 4.5), (6, 0.5), (6, 0.1)):
            space.ledger.add_feedback(opinion(number, BOB, time=days_ago(days)))
        assert expiry.expired(space) == {"interactions": 0, "feedback": 0}, "by default everything is kept"
    place.settings(model="base-model", retention={"interaction_days": 30, "feedback_days": 0.3})
    with Workspace.open(place.root) as space:
        assert expiry.expired(space) == {"interactions": 4, "feedback": 6}
        assert expiry.expire(space, actor="test", why="so") == {"interactions": 4, "feedback": 6}
        (event,) = [one for one in space.ledger.events() if one.kind == EXPIRED]
        assert event.detail["deleted"] == {"interactions": 4, "feedback": 6}
        assert set(event.detail["before"]) == {"interactions", "feedback"}
        assert [one.interaction for one in space.ledger.feedback()] == [asked(6, "").id]
        assert space.ledger.interaction(asked(5, "").id) is not None
        assert expiry.expire(space, actor="test", why="again") == {"interactions": 0, "feedback": 0}
        assert len([one for one in space.ledger.events() if one.kind == EXPIRED]) == 1, "nothing happened"
        space.ledger.verify_chain()
    data = (place.root / ".nacre" / "ledger.db").read_bytes()
    assert SECRETS[1].encode() not in data


def test_the_report_is_printed_and_told_as_json(place: Place) -> None:
    found = place.json("feedback", "report")
    assert [(row["version"], row["arm"], row["answers"]) for row in found["rows"]] == [(1, "champion", 3)]
    assert found["rows"][0]["figures"]["stars"]["count"] == 3
    shown = place.nacre("feedback", "report").out
    assert "version 1 as champion: 3 answers, 2 people said something" in shown
    assert place.json("feedback", "report", "--since", "1")["rows"] == []
    assert "nothing was answered" in place.nacre("feedback", "report", "--since", "1").out
