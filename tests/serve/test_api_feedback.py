import stat
import threading
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from serving_kit import ANSWERS, QUESTION, Connect, Place, ask

from nacre.records import Interaction
from nacre.serve.gateway.ids import Signer
from nacre.serve.run import background
from nacre.serve.settings import Serve

SETTINGS = Serve(port=0, name="bot")


def _say(client: openai.OpenAI, **body: Any) -> Any:
    return client.post("/feedback", body=body, cast_to=object)


def test_feedback_right_after_the_answer_is_durable(champion: Place, connect: Connect) -> None:
    with background(champion.source, SETTINGS) as url:
        client = connect(url)
        answer = ask(client)
        streamed = list(ask(client, stream=True))[-1]
        reply = _say(client, response_id=answer.id, stars=2, comment="no", correction="better")
        assert len(reply["ids"]) == 3
        _say(client, response_id=streamed.id, thumb="up")
        with champion.open_again() as elsewhere:  # while the server still runs: 200 means written
            said = elsewhere.feedback()
            kept = elsewhere.interaction(answer.id)
    assert [(one.kind, one.value, one.text) for one in said] == [
        ("stars", 2, ""),
        ("comment", None, "no"),
        ("correction", None, "better"),
        ("thumb", 1, ""),
    ]
    assert {one.status for one in said} == {"new"}
    assert kept is not None
    assert (kept.answer, kept.version, kept.arm, kept.finish) == (ANSWERS[0], 1, "champion", "stop")
    assert [(turn.role, turn.content) for turn in kept.messages] == [("user", QUESTION)]
    assert kept.latency_s > 0


def test_feedback_waits_for_an_answer_that_is_still_being_written(
    champion: Place, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, may_write = champion.ledger.add_interactions, threading.Event()

    def slowly(added: Sequence[Interaction]) -> None:
        assert may_write.wait(60), "the answer waited for the ledger"
        write(added)

    monkeypatch.setattr(champion.ledger, "add_interactions", slowly)
    with background(champion.source, SETTINGS) as url:
        client = connect(url)
        answer = ask(client)  # comes while the ledger takes nothing
        assert not may_write.is_set()
        threading.Timer(0.3, may_write.set).start()
        _say(client, response_id=answer.id, stars=5)
    assert len(champion.ledger.feedback()) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"stars": 0},
        {"stars": 6},
        {"stars": "5"},
        {"stars": True},
        {"thumb": "sideways"},
        {"comment": "  "},
        {"correction": ""},
        {"starz": 5},
        {},
    ],
)
def test_bad_opinions_are_refused_and_leave_nothing(champion: Place, connect: Connect, body: dict[str, Any]) -> None:
    with background(champion.source, SETTINGS) as url:
        client = connect(url)
        with pytest.raises(openai.BadRequestError) as caught:
            _say(client, response_id=ask(client, max_tokens=2).id, **body)
    if "starz" in body:
        assert "did you mean 'stars'" in caught.value.message
    assert caught.value.param == next(iter(body), None)
    assert champion.ledger.feedback() == []


def test_ids_this_server_did_not_issue_are_refused(champion: Place, connect: Connect) -> None:
    with background(champion.source, SETTINGS) as url:
        client = connect(url)
        good = ask(client, max_tokens=2).id
        changed = good[:-1] + ("0" if good[-1] != "0" else "1")
        foreign = Signer(b"another secret").new()
        for forged in ("chatcmpl-1", changed, foreign, good.upper(), good + " ", "' or 1=1 --"):
            with pytest.raises(openai.BadRequestError) as caught:
                _say(client, response_id=forged, stars=5)
            assert caught.value.code == "invalid_response_id"
        never_given = Signer.from_file(champion.secret).new()
        with pytest.raises(openai.NotFoundError) as missing:
            _say(client, response_id=never_given, stars=5)
        assert missing.value.code == "response_not_found"
    assert champion.ledger.feedback() == []


def test_ids_outlive_a_restart_and_the_secret_is_private(champion: Place, connect: Connect) -> None:
    with background(champion.source, SETTINGS) as url:
        response_id = ask(connect(url), max_tokens=2).id
    assert stat.S_IMODE(champion.secret.stat().st_mode) == 0o600
    assert [entry.name for entry in champion.secret.parent.iterdir() if entry.name.startswith(".response")] == []
    with background(champion.source, SETTINGS) as url:
        _say(connect(url), response_id=response_id, stars=5)
    assert [one.interaction for one in champion.ledger.feedback()] == [response_id]


def test_who_asks_not_to_be_kept_is_not_kept(champion: Place, connect: Connect) -> None:
    with background(champion.source, SETTINGS) as url:
        client = connect(url)
        answer = ask(client, extra_headers={"x-nacre-no-store": "1"})
        with pytest.raises(openai.NotFoundError):
            _say(client, response_id=answer.id, stars=5)
    assert champion.ledger.interaction(answer.id) is None


def test_the_source_of_an_opinion_is_the_keys_id_and_not_the_key(champion: Place, connect: Connect) -> None:
    settings = Serve(port=0, name="bot", api_keys=("secret-one", "secret-two"))
    with background(champion.source, settings) as url:
        client = connect(url, "secret-two")
        _say(client, response_id=ask(client, max_tokens=2).id, stars=5)
    source = champion.ledger.feedback()[0].source
    assert len(source) == 8
    assert "secret" not in source
