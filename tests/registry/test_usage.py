"""Opinions in groups, requests as people made them, and both leaving again: on either database."""

import sqlite3
from typing import Any

from nacre.base.errors import InputError
from nacre.records import ChatTurn, Feedback, Interaction
from nacre.registry.conversations import MOST_OPINIONS, NoAnswer, OtherQuestion, TooMany


def asked(name: str, session: str = "", **more: object) -> Interaction:
    given = {
        "id": name,
        "time": "2026-05-01T00:00:00.000+00:00",
        "version": 1,
        "arm": "champion",
        "session": session,
        "messages": (ChatTurn(role="user", content=f"question of {name}"),),
        "answer": "层\x00",
        "finish": "stop",
        "prompt": "p" * 64,
        "key": "app",
    }
    return Interaction.model_validate(given | more)


def said(name: str, **more: object) -> Feedback:
    given = {"time": "2026-05-02T00:00:00.000+00:00", "interaction": name, "kind": "stars", "value": 5, "source": "app"}
    return Feedback.model_validate(given | more)


def test_groups_are_stored_whole_or_not_at_all_and_each_is_told_its_numbers(shop: Any) -> None:
    with shop.open() as ledger:
        ledger.add_interactions([asked("a", "ann"), asked("b"), asked("c", prompt=""), asked("d", prompt="q" * 64)])
        pair = {"kind": "pair", "value": 1}
        groups = [
            [said("a", value=1), said("a", kind="comment", value=None, text="\x00 so")],
            [said("a", value=2), said("nothing", value=2)],
            [said("b", value=3)],
            [said("a", other="d", **pair)],
            [said("a", other="c", **pair)],
            [said("a", other="b", **pair)],
            [said("b", value=4)] * (MOST_OPINIONS + 1),
            [said("b", value=4, source="other", person="eve")],
        ]
        results = ledger.add_opinions(groups)
        kinds = [type(one) for one in results]
        assert kinds == [list, NoAnswer, list, OtherQuestion, OtherQuestion, list, TooMany, list]
        stored = {one.id: one for one in ledger.feedback()}
        numbers = [number for one in results if not isinstance(one, InputError) for number in one]
        assert numbers == sorted(stored), "none but these, and in order"
        assert [stored[number].value for number in numbers] == [1, None, 3, 1, 4]
        assert [stored[number].person for number in numbers] == ["ann", "ann", "", "ann", "eve"]


def test_opinions_and_requests_are_read_and_a_person_leaves(shop: Any) -> None:
    with shop.open() as ledger:
        ledger.add_interactions(
            [
                asked("a", "ann", first_token_s=0.5),
                asked("b", "bob", version=2),
                asked("c", "ann", arm="shadow", twin="a"),
            ]
        )
        ledger.add_opinions([[said("a", kind="pair", value=1, other="b")], [said("b", person="ann")], [said("b")]])
        with ledger.usage.answers() as uses:
            assert [(one.session, one.version, one.question) for one in uses] == [
                ("ann", 1, "question of a"),
                ("bob", 2, "question of b"),
            ]
        with ledger.usage.answers("2026-05-01T00:00:00.001+00:00") as uses:
            assert list(uses) == []
        opinions = ledger.usage.opinions()
        assert [(one.person, one.kind, one.rival) for one in opinions] == [
            ("ann", "pair", (2, "champion")),
            ("ann", "stars", None),
            ("bob", "stars", None),
        ]
        held = ledger.usage.of_person("ann")
        assert (set(held.interactions), len(held.feedback)) == ({"a", "c"}, 2)
        ledger.usage.forget_person("ann", {}, actor="test")
        assert ledger.usage.persons() == {"bob"}
        assert [one.person for one in ledger.feedback()] == ["bob"]
        old = "2026-05-01T12:00:00.000+00:00"
        assert ledger.usage.expired(old, None) == {"interactions": 1, "feedback": 1}
        assert ledger.usage.expired(None, old) == {"interactions": 0, "feedback": 0}
        ledger.usage.expire(old, None, actor="test", why="so")
        assert ledger.feedback() == []
        ledger.verify_chain()


def test_deleted_texts_are_overwritten(workshop: Any) -> None:
    with workshop.open() as ledger:
        ledger.add_interactions([asked(f"a{place}", "ann" if place % 2 else "bob") for place in range(40)])
        path = workshop.root / ".nacre" / "ledger.db"
        ledger.usage.forget_person("ann", {}, actor="test")
        for name in (path, path.with_name("ledger.db-wal")):
            data = name.read_bytes() if name.exists() else b""
            assert b'question of a1"' not in data
            assert b"question of a39" not in data
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from interaction").fetchone() == (20,)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()
