"""Made-up rows: asked for, dropped where they are no use, and on nobody's plate before a person accepted them."""

import importlib.util
import json
import sys
from pathlib import Path

import click
import pytest
import typer

from judge_kit import Fake
from nacre.base import chat_client
from nacre.base.errors import InputError
from nacre.data.compose import synthesize as module
from nacre.data.compose.synthesize import Endpoint, synthesize
from nacre.data.convert import read_examples
from nacre.serve.run import background
from nacre.serve.settings import Serve
from toy_kit import ask as ask_row
from workspace_kit import Place, assert_clear


def reply(*pairs: tuple[str, str]) -> str:
    return json.dumps([{"question": question, "answer": answer} for question, answer in pairs])


def setup(place: Place, fake: Fake, **more: object) -> None:
    (place.root / "made.yaml").write_text(
        json.dumps({"url": fake.url, "model": "wise", "retries": 2, "batch": 3} | more)
    )


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_client, "BACKOFF_S", 0.0)


def ask(place: Place, rows: int = 3, code: int = 0):
    return place.json("data", "synthesize", "base", "--config", "made.yaml", "--rows", rows, code=code)


def test_faults_are_counted_and_asked_again(fresh: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = json.loads((fresh.dataset / "base" / "dev.json").read_text().splitlines()[0])
    train = json.loads((fresh.dataset / "base" / "train.json").read_text().splitlines()[0])
    script = [
        503,
        b"no json at all",
        "I would rather not.",
        reply(
            (dev["instruction"], dev["output"]),
            (train["instruction"], train["output"]),
            ("what is a harbour", "a port"),
        ),
        json.dumps(
            [{"question": "no answer"}, {"question": " ", "answer": "x"}, "text", {"question": "q", "answer": 3}]
        ),
        "```json\n" + reply(("who paints the gate", "the gardener"), ("what is a harbour", "a port")) + "\n```",
        json.dumps({"question": "an object", "answer": "no list"}),
    ]
    monkeypatch.setenv("A_KEY", "sesame")
    with Fake(lambda _, number: script[number - 1] if number <= len(script) else "[]") as fake:
        setup(fresh, fake, key_env="A_KEY")
        found = ask(fresh, 6)
        assert fake.headers[0][:2] == ("/v1/chat/completions", "Bearer sesame")
        assert "Write 3 new rows" in fake.prompts[0]
    assert found["added"] == 2
    assert found["dropped"] == {
        "the reply is not JSON alone": 1,
        "like a dev row": 1,
        "like a row there is": 2,
        "an item is no object with question and answer alone": 2,
        "a question or answer is no text, or blank": 2,
        "the reply is no list": 1,
    }
    assert found["requests"] == 6
    assert "2 rows, not 6: 6 requests gave no more" in found["notes"]


def test_only_what_a_person_accepts_becomes_rows(fresh: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [(f"question {word * 3}", f"answer {word}") for word in ("one", "two", "three", "four")]
    with Fake(lambda *_: reply(*made)) as fake:
        setup(fresh, fake, batch=4)
        assert ask(fresh, 4)["added"] == 4
    assert_clear(fresh.nacre("data", "review", "--increment", "made", "--by", "anna"), "no row was accepted")
    assert_clear(fresh.nacre("data", "review"), "in a terminal only")
    keys = iter("xaers")
    monkeypatch.setattr(typer, "getchar", lambda: next(keys))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "edit", lambda text: text.replace("answer two", "a better answer"))
    shown = fresh.nacre("data", "review", "--by", "anna")
    assert shown.code == 0, shown
    assert "base: 1 open, 2 accepted, 1 rejected" in shown.out
    found = fresh.json("data", "review", "--increment", "made")
    assert found["written"] == {"file": "dataset/made/train.jsonl", "rows": 2}
    rows = read_examples(fresh.dataset / "made" / "train.jsonl").examples
    assert [(row.prompt[0].content, row.answer) for row in rows] == [made[0], (made[1][0], "a better answer")]
    extra = rows[1].origin.extra
    assert {key: extra[key] for key in ("origin", "model", "accepted_by", "edited")} == {
        "origin": "synthetic",
        "model": "wise",
        "accepted_by": "anna",
        "edited": "yes",
    }
    last = found["drafts"][3]["id"]
    assert_clear(
        fresh.nacre("data", "review", "--accept", found["drafts"][2]["id"], "--by", "bo"), "was rejected by anna"
    )
    fresh.json("data", "review", "--accept", last, "--by", "bo", "--increment", "made")
    rows = read_examples(fresh.dataset / "made" / "train.jsonl").examples
    assert [row.origin.extra["accepted_by"] for row in rows] == ["anna", "anna", "bo"]
    assert fresh.json("review", "status") == {"reviews": []}  # a queue of its own
    with Fake(lambda *_: reply(*made)) as fake:
        setup(fresh, fake)
        assert ask(fresh, 2)["added"] == 0  # not even what was rejected comes again
    assert fresh.json("verify")["faults"] == []


def test_a_draft_of_another_queue_than_the_one_named_is_not_decided_on(fresh: Place) -> None:
    with Fake(lambda _, number: reply((f"question {number} {'why ' * number}", f"answer {number}"))) as fake:
        setup(fresh, fake, batch=1)
        assert ask(fresh, 1)["added"] == 1
        words = ("data", "synthesize", "base", "--config", "made.yaml", "--rows", 1)
        assert fresh.json(*words, "--queue", "other")["added"] == 1
    here, there = (fresh.json("data", "review", "--queue", name)["drafts"][0]["id"] for name in ("base", "other"))
    words = ("data", "review", "--queue", "base", "--accept", here, "--reject", there, "--by", "bo")
    assert_clear(fresh.nacre(*words), f"draft {there} is not in the queue base", "--queue other")
    for name in ("base", "other"):
        assert [one["status"] for one in fresh.json("data", "review", "--queue", name)["drafts"]] == ["open"]


def test_nothing_that_a_person_accepts_is_hidden_from_them(fresh: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with Fake(lambda *_: reply(("what is safe", "yes\x1b[1A\x1b[2K\u202eno\u200b\tand\nmore"))) as fake:
        setup(fresh, fake)
        assert ask(fresh, 1)["added"] == 1
    monkeypatch.setattr(typer, "getchar", lambda: "s")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    shown = fresh.nacre("data", "review", "--by", "anna").out
    assert "yes<U+001B>[1A<U+001B>[2K<U+202E>no<U+200B>" in shown
    assert not {"\x1b", "\u202e", "\u200b"} & set(shown)


def test_a_server_that_refuses_or_fails_is_said(fresh: Place) -> None:
    assert_clear(fresh.nacre("data", "review"), "nacre data synthesize makes one")
    with Fake(lambda *_: 401) as fake:
        setup(fresh, fake)
        assert_clear(fresh.nacre("data", "synthesize", "base", "--config", "made.yaml"), "status 401", "key_env")
    with Fake(lambda *_: 401) as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_KEY", "sk-secret")
        setup(fresh, fake, key_env="A_KEY")
        refused = fresh.nacre("data", "synthesize", "base", "--config", "made.yaml")
        assert fake.headers[-1][1] == "Bearer sk-secret"
        assert "sk-secret" not in refused.out + refused.err, "the server quotes the key that it refuses"
    with Fake(lambda *_: 500) as fake:
        setup(fresh, fake)
        assert_clear(fresh.nacre("data", "synthesize", "base", "--config", "made.yaml"), "failed 3 times", code=1)
    with Fake(lambda _, number: reply(("who rings the bell", "the sexton")) if number == 1 else 500) as fake:
        setup(fresh, fake, batch=1)
        failed = fresh.nacre("data", "synthesize", "base", "--config", "made.yaml", "--rows", 2)
        assert_clear(failed, "made so far are kept", code=1)
    assert [one["question"] for one in fresh.json("data", "review")["drafts"]] == ["who rings the bell"]
    with Fake(lambda *_: 302) as fake:
        setup(fresh, fake)
        assert_clear(fresh.nacre("data", "synthesize", "base", "--config", "made.yaml"), "redirects are not followed")
    setup(fresh, fake, key_env="NO_SUCH_KEY")
    assert_clear(fresh.nacre("data", "synthesize", "base", "--config", "made.yaml"), "NO_SUCH_KEY is not set")


def test_nacres_own_server_makes_rows_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real OpenAI-compatible server: a model that learned by heart to say one row to one prompt."""
    place = Path(__file__).parents[1] / "serve" / "serving_kit.py"
    spec = importlib.util.spec_from_file_location("serving_kit_of_the_maker", place)
    kit = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, kit)
    spec.loader.exec_module(kit)
    folder = kit.make_model(tmp_path / "model", reply(("hi", "ho")), 0)
    monkeypatch.setattr(module, "PROMPT", kit.QUESTION)
    monkeypatch.setenv("A_KEY", "sesame")
    weights = kit.Weights(identity="0" * 64, model=str(folder))
    with background(weights, Serve(port=0, name="wise", api_keys=("sesame",))) as url:
        endpoint = Endpoint(url=f"{url}/v1", model="wise", key_env="A_KEY", temperature=0, max_tokens=60)
        found = synthesize([ask_row("q", "a")], 1, endpoint)
        assert [(row.prompt[0].content, row.answer) for row, _ in found.rows] == [("hi", "ho")]
        with pytest.raises(InputError, match="refuses, status 401"):
            synthesize([ask_row("q", "a")], 1, endpoint.model_copy(update={"key_env": None}))
