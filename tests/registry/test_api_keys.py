"""Keys in the ledger, on SQLite and PostgreSQL: made, rotated, taken back, counted; and no secret anywhere."""

import os
import threading

import pytest
import sqlalchemy as sa

from nacre.base.errors import InputError
from nacre.records.key import Key, Limits
from nacre.registry.keys import Used, key_hash, key_id
from process_kit import in_child


def test_a_key_is_shown_once_and_kept_as_a_hash(shop) -> None:
    with shop.open() as ledger:
        made, secret = ledger.keys.create("ann", ["feedback", "infer"], limits=Limits(requests=5), actor="bob")
        assert key_id(secret) == made.id
        assert made.scopes == ("infer", "feedback")
        [held] = ledger.keys.all()
        assert held.key == made
        assert held.hash == key_hash(secret)
        event = ledger.events(1)[0]
        assert (event.kind, event.actor, event.detail["key"]) == ("key created", "bob", made.id)
        ledger.verify_chain()
    engine = sa.create_engine(shop.url)
    with engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            text = str(connection.execute(sa.text(f'select * from "{table}"')).all())
            assert secret not in text
            assert secret.rsplit("_", 1)[1] not in text
    engine.dispose()


def test_a_rotated_key_keeps_its_old_secret_for_the_grace_time(shop) -> None:
    with shop.open() as ledger:
        made, first = ledger.keys.create("ann", ["infer"])
        before = ledger.keys.changes()
        after, second = ledger.keys.rotate(made.id, grace_s=60)
        assert ledger.keys.changes() > before
        [held] = ledger.keys.all()
        assert (held.hash, held.old_hash) == (key_hash(second), key_hash(first))
        assert after.rotated < after.old_until
        _, third = ledger.keys.rotate(made.id)
        [held] = ledger.keys.all()
        assert (held.hash, held.old_hash, held.key.old_until) == (key_hash(third), "", "")


def test_a_revoked_key_opens_nothing_and_stays_revoked(shop) -> None:
    with shop.open() as ledger:
        made, _ = ledger.keys.create("ann", ["infer"])
        assert made.opens("2026-01-01")
        revoked = ledger.keys.revoke(made.id)
        assert not revoked.opens("2026-01-01")
        events = len(ledger.events())
        assert ledger.keys.revoke(made.id) == revoked
        assert len(ledger.events()) == events
        with pytest.raises(InputError, match="was revoked"):
            ledger.keys.rotate(made.id)
        with pytest.raises(InputError, match="unknown key") as caught:
            ledger.keys.revoke("ffffffff")
        assert made.id in caught.value.fix


def test_a_key_expires() -> None:
    one = Key(id="a", name="n", scopes=("infer",), created="2026-01-01", expires="2026-02-01T00:00:00.000+00:00")
    assert one.opens("2026-01-31T23:59:59.999+00:00")
    assert not one.opens("2026-02-01T00:00:00.000+00:00")


@pytest.mark.parametrize(
    ("name", "scopes", "expires_s", "says"),
    [
        ("ann", ["infre"], None, "unknown scope 'infre'"),
        ("ann", [], None, "opens nothing"),
        ("", ["infer"], None, "needs a name"),
        ("a\nb", ["infer"], None, "needs a name"),
        ("ann", ["infer"], 0.0, "above nought"),
        ("ann", ["infer"], float("nan"), "above nought"),
        ("ann", ["infer"], 1e18, "above nought"),
    ],
    ids=["scope", "none", "no name", "two lines", "no time", "nan", "for ever"],
)
def test_mistakes_make_no_key(workshop, name: str, scopes: list[str], expires_s: float | None, says: str) -> None:
    with workshop.open() as ledger:
        with pytest.raises(InputError, match=says):
            ledger.keys.create(name, scopes, expires_s=expires_s)
        assert ledger.keys.all() == []
        assert ledger.keys.changes() == 0


def test_what_several_gateways_count_is_added_up(shop) -> None:
    def work() -> None:
        with shop.open() as ledger:
            for _ in range(20):
                ledger.keys.add_use({"aa": Used(1, 7), "bb": Used(2, 0)}, day="2026-03-02")

    with shop.open() as ledger:
        ledger.keys.add_use({"aa": Used(1, 1)}, day="2026-02-27")
    children = [in_child(work) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    with shop.open() as ledger:
        assert ledger.keys.use("day", "2026-03-02") == {"aa": Used(60, 420), "bb": Used(120, 0)}
        assert ledger.keys.use("day", "2026-03-03") == {}
        assert ledger.keys.use("month", "2026-03-31")["aa"] == Used(60, 420)
        assert ledger.keys.use("total", "2026-03-31")["aa"] == Used(61, 421)


def test_keys_made_at_once_are_all_there(workshop) -> None:
    with workshop.open() as ledger:
        makers = [threading.Thread(target=ledger.keys.create, args=(f"n{i}", ["infer"])) for i in range(8)]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
        assert sorted(held.key.name for held in ledger.keys.all()) == [f"n{i}" for i in range(8)]
        assert ledger.keys.changes() == 8
        ledger.verify_chain()
