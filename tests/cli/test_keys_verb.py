"""`nacre keys`: a key is made, shown once, listed, rotated and revoked."""

import json
from pathlib import Path

import pytest

from nacre.registry.keys import key_hash
from workspace_kit import Place, assert_clear


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "nacre.yaml").write_text(json.dumps({"model": "nothing"}))
    return Place(tmp_path)


def test_a_key_from_its_making_to_its_end(place: Place) -> None:
    made = place.json(
        *("keys", "create", "ann", "--scope", "infer", "--scope", "admin", "--expires", "90d", "--actor", "bob"),
        *("--limit", "requests=60", "--limit", "concurrency=2", "--budget", "1000/day"),
    )
    assert made["scopes"] == ["infer", "admin"]
    assert made["limits"] | {"tokens": None} == {
        "requests": 60,
        "tokens": None,
        "concurrency": 2,
        "budget": 1000,
        "budget_per": "day",
    }
    assert made["created"] < made["expires"]
    ledger = (place.root / ".nacre" / "ledger.db").read_bytes()
    assert made["secret"].encode() not in ledger
    assert key_hash(made["secret"]).encode() in ledger
    [listed] = place.json("keys", "list")["keys"]
    assert "secret" not in listed
    assert (listed["id"], listed["opens"], listed["tokens"]) == (made["id"], True, 0)
    shown = place.nacre("keys", "list").out
    assert "60 requests/min, 2 at a time, 1000 tokens/day" in shown
    turned = place.json("keys", "rotate", made["id"], "--grace", "1d")
    assert turned["secret"] != made["secret"]
    assert turned["old_until"] > turned["rotated"]
    assert place.json("keys", "revoke", made["id"])["revoked"]
    assert "revoked" in place.nacre("keys", "list").out
    assert_clear(place.nacre("keys", "rotate", made["id"]), "was revoked")


def test_the_key_alone_stands_in_the_first_line(place: Place) -> None:
    found = place.nacre("keys", "create", "ann")
    first, second = found.out.splitlines()
    assert first.startswith("nk_")
    assert "not shown again" in second
    assert first not in place.nacre("keys", "list").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--scope", "root"), "unknown scope 'root'"),
        (("--expires", "soon"), "no length of time"),
        (("--limit", "requests"), "no limit"),
        (("--limit", "requests=0"), "bad value for 'requests'"),
        (("--budget", "1000"), "no budget"),
    ],
    ids=["scope", "expires", "limit", "nought", "budget"],
)
def test_mistakes_make_no_key(place: Place, words: tuple[str, ...], says: str) -> None:
    assert_clear(place.nacre("keys", "create", "ann", *words), says)
    assert place.json("keys", "list") == {"keys": []}
