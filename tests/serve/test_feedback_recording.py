"""What a server records of an answer and of what is said of it: when, of whom, with whose leave, and what it omits."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from gateway_kit import Hall, NamedEngine, Reply, chat, loaded, make_hall, send, serving, until

from nacre.base.errors import NacreError
from nacre.data.clean.pii import Pii
from nacre.records import Feedback, Interaction
from nacre.records.key import Limits
from nacre.serve.routing import user_of

SECRET = "sk-" + "a1B2c3D4e5" * 4


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    made = make_hall(tmp_path / "assistant")
    yield made
    NamedEngine.forget()
    made.space.close()


def kept(hall: Hall, reply: Reply) -> Interaction | None:
    return hall.ledger.interaction(reply.body["id"])


def written(hall: Hall, reply: Reply) -> Interaction:
    until(lambda: kept(hall, reply) is not None)
    found = kept(hall, reply)
    assert found is not None
    return found


def say(url: str, answer: Reply | str, *, key: str = "", **body: object) -> Reply:
    identity = answer if isinstance(answer, str) else answer.body["id"]
    return send(url, "/v1/feedback", {"response_id": identity} | body, key=key)


def test_the_seconds_to_the_first_token_are_kept(hall: Hall) -> None:
    NamedEngine.piece_s[1] = 0.1
    with serving(hall) as server:
        plain = written(hall, chat(server.url, "hello"))
        body = {"model": "bot", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        raw = send(server.url, "/v1/chat/completions", body).body.decode()
        streamed = json.loads(raw.split("\n\n")[0].removeprefix("data: "))["id"]
        until(lambda: hall.ledger.interaction(streamed) is not None)
        found = hall.ledger.interaction(streamed)
    for one in (plain, found):
        assert one is not None
        assert one.first_token_s is not None
        assert 0.09 < one.first_token_s < one.latency_s


@pytest.mark.parametrize(
    ("setting", "header", "consent"),
    [
        ("assumed", None, "assumed"),
        ("assumed", "yes", "given"),
        ("assumed", "No ", "refused"),
        ("asked", None, "refused"),
        ("asked", "yes", "given"),
    ],
)
def test_leave_to_learn_is_kept_with_the_answer(hall: Hall, setting: str, header: str | None, consent: str) -> None:
    with serving(hall, privacy={"consent": setting}) as server:
        headers = {"x-nacre-consent": header} if header else {}
        assert written(hall, chat(server.url, "hello", headers=headers)).consent == consent
        refused = chat(server.url, "hello", headers={"x-nacre-consent": "perhaps"})
        assert (refused.status, refused.code) == (400, "invalid_value")


def test_nothing_private_reaches_the_disk(hall: Hall, caplog: pytest.LogCaptureFixture) -> None:
    private = (SECRET, "ann@example.org", "13800138000")
    with serving(hall) as server, caplog.at_level(logging.INFO):
        answer = chat(server.url, f"my key is {SECRET}, mail ann@example.org", user="ann@example.org")
        assert SECRET in answer.text, "the user is shown what the model said"
        assert say(server.url, answer, comment="call 13800138000", correction="ask ann@example.org").status == 200
        found = written(hall, answer)
        assert found.removed == {"API key": 2, "EMAIL": 2}
        assert found.messages[0].content == "my key is [SECRET], mail [EMAIL]"
        metrics = send(server.admin_url, "/metrics").body
    assert [one.text for one in hall.ledger.feedback()] == ["call [PHONE]", "ask [EMAIL]"]
    hall.ledger.close()
    for path in hall.space.hidden.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [one for one in private if one.encode() in data], path
    assert not any(one in caplog.text for one in private)
    assert metrics is not None


def test_what_was_removed_is_counted_for_prometheus_and_in_the_log(
    hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    _, secret = hall.ledger.keys.create("boss", ["admin", "infer"], limits=Limits(), actor="test")
    with serving(hall) as server, caplog.at_level(logging.INFO):
        written(hall, chat(server.url, "mail ann@example.org", key=secret))
        told = send(server.url, "/metrics", key=secret).body.decode()
    assert 'nacre_removed_total{kind="EMAIL"} 2.0' in told
    removed = [record for record in caplog.records if record.message == "removed before it was written"]
    assert [record.nacre_fields["removed"] for record in removed] == [{"EMAIL": 2}]  # type: ignore[attr-defined]  # nacre's own


def test_texts_stay_as_they_are_where_the_operator_says_so_and_that_is_told(
    hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(hall, privacy={"clean": []}) as server:
        found = written(hall, chat(server.url, "mail ann@example.org"))
    assert (found.messages[0].content, found.removed) == ("mail ann@example.org", {})
    assert "serve.privacy.clean is empty" in caplog.text


def test_what_cannot_be_cleaned_is_counted_and_never_written(
    hall: Hall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Pii, text: str) -> str:
        raise ValueError(f"cannot clean {text}")

    monkeypatch.setattr(Pii, "text", broken)
    with serving(hall) as server:
        bad, good = chat(server.url, "mail ann@example.org"), chat(server.url, "hello")
        written(hall, good)
        assert say(server.url, bad, stars=5).status == 404
        refused = say(server.url, good, comment="mail ann@example.org")
        assert refused.status == 503
        assert say(server.url, good, stars=5).status == 200, "the writer goes on"
    assert kept(hall, bad) is None
    assert [one.kind for one in hall.ledger.feedback()] == ["stars"]
    assert "could not be cleaned" in caplog.text
    assert "ann@example.org" not in caplog.text


def test_the_shadows_answers_are_cleaned_and_joined(hall: Hall) -> None:
    hall.release(2, shadow_requests=10, steps=[50, 100])
    with serving(hall) as server:
        loaded(server.url, "shadow")
        shown = written(hall, chat(server.url, "mail ann@example.org", headers={"x-nacre-consent": "yes"}))
        observed = hall.ledger.releases.observed
        active = hall.ledger.releases.active()
        assert active is not None
        until(lambda: len(observed.pairs(active)) == 1)
        shadow = hall.ledger.interaction(observed.pairs(active)[0].ids[1])
    assert shadow is not None
    assert (shadow.twin, shadow.prompt, shadow.consent, shadow.key) == (shown.id, shown.prompt, "given", "")
    assert shadow.answer == "2: mail [EMAIL]"
    assert shadow.first_token_s is not None


def test_a_person_is_whom_the_client_names_else_who_asked_with_the_same_key(hall: Hall) -> None:
    keys = [hall.ledger.keys.create(name, ["infer", "feedback"], actor="test") for name in ("one", "two")]
    (one, first), (two, second) = keys
    with serving(hall) as server:
        answer = chat(server.url, "hello", key=first, user="ann")
        nameless = chat(server.url, "hello", key=first)
        assert say(server.url, answer, key=first, stars=5).status == 200
        assert say(server.url, answer, key=first, stars=4, user="bob").status == 200
        assert say(server.url, answer, key=second, stars=3).status == 200
        assert say(server.url, answer, key=second, stars=2, user="ann").status == 200
        assert say(server.url, nameless, key=first, stars=1).status == 200
    ann, bob = user_of(one.id, "ann"), user_of(one.id, "bob")
    assert ann != (other := user_of(two.id, "ann"))
    said = [(saying.value, saying.person, saying.source) for saying in hall.ledger.feedback()]
    assert said == [(5, ann, one.id), (4, bob, one.id), (3, "", two.id), (2, other, two.id), (1, "", one.id)]
    assert written(hall, answer).key == one.id


def test_two_answers_to_one_question_can_be_compared(hall: Hall) -> None:
    with serving(hall) as server:
        better, worse, other = (chat(server.url, text) for text in ("hello", "hello", "good bye"))
        assert say(server.url, better, better_than=worse.body["id"]).status == 200
        assert say(server.url, better, as_good_as=worse.body["id"], stars=3).status == 200
        for body, status, code in (
            ({"better_than": other.body["id"]}, 400, "different_prompts"),
            ({"better_than": "chatcmpl-1"}, 400, "invalid_response_id"),
            ({"better_than": better.body["id"]}, 400, "invalid_value"),
            ({"better_than": worse.body["id"], "as_good_as": worse.body["id"]}, 400, None),
        ):
            reply = say(server.url, better, **body)
            assert (reply.status, reply.code) == (status, code), body
        hidden = chat(server.url, "hello", headers={"x-nacre-no-store": "1"})
        gone = say(server.url, better, better_than=hidden.body["id"])
        assert (gone.status, gone.body["error"]["param"]) == (404, "better_than")
        shape = send(server.url, "/openapi.json").body["components"]["schemas"]["FeedbackBody"]["properties"]
    said = [(one.kind, one.value, one.other) for one in hall.ledger.feedback()]
    assert said == [("pair", 1, worse.body["id"]), ("stars", 3, ""), ("pair", 0.5, worse.body["id"])]
    assert {"better_than", "as_good_as", "user"} <= set(shape)


def test_opinions_that_come_together_are_stored_together_and_bad_ones_hurt_no_other(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    store = hall.ledger.add_opinions

    def slowly(groups: Sequence[Sequence[Feedback]]) -> object:
        batches.append(len(groups))
        time.sleep(0.2)
        return store(groups)

    monkeypatch.setattr(hall.ledger, "add_opinions", slowly)
    with serving(hall) as server:
        answer = chat(server.url, "hello")
        unknown = chat(server.url, "hello", headers={"x-nacre-no-store": "1"})
        with ThreadPoolExecutor(24) as pool:
            asked: list[Future[Reply]] = [
                pool.submit(
                    say, server.url, (answer, answer, unknown)[place % 3], stars=1 + place % 5, user=f"u{place}"
                )
                for place in range(24)
            ]
            replies = [one.result() for one in asked]
    assert [reply.status for reply in replies] == [200, 200, 404] * 8
    assert sum(batches) == 24 + 2 * 8, "an answer that is not there may be on its way: it is looked for twice more"
    assert len(batches) < 12, "they share transactions"
    stored = {one.id: one.value for one in hall.ledger.feedback()}
    for place, reply in enumerate(replies):
        if reply.status == 200:
            assert stored[reply.body["ids"][0]] == 1 + place % 5, "each is told its own number"


def test_a_ledger_that_refuses_opinions_is_told_and_nothing_is_stored(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(groups: object) -> object:
        raise NacreError("the disk is full")

    with serving(hall) as server:
        answer = chat(server.url, "hello")
        with monkeypatch.context() as patched:
            patched.setattr(hall.ledger, "add_opinions", full)
            reply = say(server.url, answer, stars=5)
            assert reply.status == 503
            assert "the disk is full" in reply.body["error"]["message"]
        assert say(server.url, answer, stars=4).status == 200
    assert [one.value for one in hall.ledger.feedback()] == [4]
