"""What a client planted must not come out where it has no business: error bodies, the ledger's files, probes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_kit import Hall, Reply, chat, make_hall, send, serving, until
from scripted_engine import BREAK, REFUSE

SECRET = "a-configured-key-4711"
PERSON = "Erika Mustermann, DE89 3704 0044 0532 0130 00, erika@example.org"


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    made = make_hall(tmp_path / "assistant")
    yield made
    made.space.close()


def _refused(url: str, key: str, secret: str) -> Iterator[Reply]:
    """Requests that fail in every way, each with a person in its text and a secret where one might land."""
    planted = {"x-request-id": f"id {secret}", "cookie": secret, "x-api-key": secret, "traceparent": secret}
    for more in (
        *({"temperature": PERSON}, {"stop": [PERSON * 10]}, {"n": 0}, {"response_format": {"type": PERSON}}),
        *(
            {"tools": PERSON},
            {"max_tokens": 10**9},
            {"stream_options": {"include_usage": True}},
            {"logit_bias": {"x": 1}},
        ),
        {"seed": PERSON},
    ):
        yield chat(url, PERSON, key=key, headers=planted, **more)
    for question in (f"{PERSON} {BREAK}", BREAK, REFUSE):
        yield chat(url, question, key=key, user=PERSON, headers=planted)
    yield send(
        url, "/v1/chat/completions", {"model": "bot", "messages": [{"role": PERSON, "content": PERSON}]}, key=key
    )
    yield send(url, "/v1/chat/completions", {"model": "bot", "messages": PERSON}, key=key)
    yield send(url, "/v1/feedback", {"response_id": "x", "comment": PERSON, "stars": PERSON}, key=key)
    yield send(url, "/v1/feedback", {"response_id": PERSON, "comment": PERSON}, key=key)
    yield send(url, "/v1/models", key=f"{secret}x", headers=planted)
    yield send(url, "/admin/slots", key=f"{secret}x", headers=planted)


def test_errors_repeat_no_text_and_no_key(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError(f"{PERSON} with {SECRET}")

    _, key = hall.ledger.keys.create("client", ["infer", "feedback"])
    with serving(hall, api_keys=(SECRET,)) as server:
        replies = list(_refused(server.url, key, SECRET))
        monkeypatch.setattr("nacre.serve.service.Service.model_ids", broken)
        replies.append(send(server.url, "/v1/models", key=SECRET))
    failed = [reply for reply in replies if reply.status != 200]
    assert {400, 401, 500, 503} <= {reply.status for reply in failed}
    for reply in failed:
        told = json.dumps(reply.body, ensure_ascii=False) + str(dict(reply.headers))
        for planted in (
            PERSON,
            "Erika",
            "DE89",
            SECRET,
            key,
            key.split("_")[2],
            "Traceback",
            str(Path(__file__).parent),
        ):
            assert planted not in told, (planted, told)


def test_no_secret_is_in_the_ledgers_files(hall: Hall) -> None:
    _, first = hall.ledger.keys.create("client", ["infer"])
    [identity] = [one.key.id for one in hall.ledger.keys.all()]
    _, second = hall.ledger.keys.rotate(identity, grace_s=3600)
    with serving(hall, api_keys=(SECRET,)) as server:
        until(lambda: chat(server.url, key=second).status == 200)
        kept = chat(server.url, "keep me", key=SECRET).body["id"]
        until(lambda: hall.ledger.interaction(kept) is not None)
    files = [file for file in hall.space.hidden.rglob("*") if file.is_file()]
    assert any(b"keep me" in file.read_bytes() for file in files), "the files that were looked at are the right ones"
    for file in files:
        for secret in (first, first.split("_")[2], second.split("_")[2], SECRET):
            assert secret.encode() not in file.read_bytes(), file


def test_a_probe_without_a_key_learns_one_word(hall: Hall) -> None:
    hall.ledger.keys.create("client", ["infer"])
    with serving(hall) as server:
        reply = send(server.url, "/health")
        assert reply.body == {"status": "ok"}
        assert "server" not in reply.headers
        assert not {"x-nacre-version", "x-nacre-arm"} & set(reply.headers)
