import threading
import time

import openai
import pytest
from gateway_kit import until
from load_kit import lateness
from serving_kit import ANSWERS, Connect, Place, ask, text_of

from nacre.base.errors import NacreError
from nacre.records import Version, Weights
from nacre.serve.run import LedgerSource, background
from nacre.serve.settings import Serve

SETTINGS = Serve(port=0, name="bot")


def _until(client: openai.OpenAI, answer: str) -> float:
    """Ask until that answer comes; seconds until the last request was sent that was still answered otherwise."""
    last = started = time.monotonic()
    while True:
        asked = time.monotonic()
        if text_of(ask(client)) == answer:
            return last - started
        last = asked
        assert last - started < 60, f"{answer!r} does not come"


def test_promotion_and_rollback_elsewhere_take_effect_within_a_second(champion: Place, connect: Connect) -> None:
    with background(champion.source, SETTINGS) as url, champion.open_again() as elsewhere:
        client = connect(url)
        first = ask(client)
        assert (text_of(first), first.model) == (ANSWERS[0], "bot@1")
        elsewhere.promote(2, actor="test", why="newer")
        _until(client, ANSWERS[1])  # which has to be loaded first
        names = ["bot", "bot:champion", "bot:previous-1", "bot@1", "bot@2"]
        assert [model.id for model in client.models.list()] == names
        assert text_of(ask(client, model="bot@2")) == ANSWERS[1]
        assert text_of(ask(client, model="bot:previous-1")) == ANSWERS[0]
        with pytest.raises(openai.NotFoundError):
            ask(client, model="bot@3")
        took = []
        with lateness() as late:
            elsewhere.rollback(actor="test", why="worse")
            took.append(_until(client, ANSWERS[0]))
            elsewhere.promote(2, actor="test", why="better")
            took.append(_until(client, ANSWERS[1]))
        assert max(took) <= 1.0 + 2 * max(late), "a busy machine is late by itself, in both processes"


def test_a_swap_under_load_loses_and_mixes_nothing(champion: Place, connect: Connect) -> None:
    problems: list[str] = []
    seen: list[str] = []
    over = threading.Event()

    def work(client: openai.OpenAI) -> None:
        while not over.is_set():
            try:
                chunks = list(ask(client, stream=True))
            except openai.OpenAIError as error:
                problems.append(repr(error))
                return
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            expected = {"bot@1": ANSWERS[0], "bot@2": ANSWERS[1]}
            if {chunk.model for chunk in chunks} != {chunks[0].model} or text != expected[chunks[0].model]:
                problems.append(f"{chunks[0].model} said {text!r}")
            if chunks[-1].choices[0].finish_reason != "stop":
                problems.append("a stream was cut")
            seen.append(chunks[0].model)

    with background(champion.source, SETTINGS) as url, champion.open_again() as elsewhere:
        workers = [threading.Thread(target=work, args=(connect(url),)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for turn in range(4):
            if turn % 2:
                elsewhere.rollback(actor="test", why="back")
            else:
                elsewhere.promote(2, actor="test", why="forth")
            _wait_for("bot@1" if turn % 2 else "bot@2", seen)
        over.set()
        for worker in workers:
            worker.join()
    assert problems == []
    turns = [model for model, before in zip(seen, ["bot@1", *seen], strict=False) if model != before]
    assert len(turns) >= 4, f"the load must have seen every swap, saw {turns}"


def _wait_for(model: str, seen: list[str]) -> None:
    began, before = time.monotonic(), len(seen)
    while model not in seen[before:] and time.monotonic() - began < 60:
        time.sleep(0.05)


def test_without_a_champion_the_server_says_so_until_there_is_one(place: Place, connect: Connect) -> None:
    with background(place.source, SETTINGS) as url:
        client = connect(url)
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client)
        assert caught.value.status_code == 503
        assert "nacre promote" in caught.value.message
        with pytest.raises(openai.InternalServerError):
            client.get(f"{url}/health", cast_to=object)
        assert list(client.models.list()) == []
        place.ledger.promote(1, actor="test", why="start")
        until(lambda: list(client.models.list()) != [])
        assert text_of(ask(client)) == ANSWERS[0]


def test_a_champion_that_cannot_be_loaded_leaves_the_old_one_answering(champion: Place, connect: Connect) -> None:
    def resolve(version: Version) -> Weights:
        if version.number == 2:
            raise NacreError("artifact of version 2 is gone", where="/private/place", fix="restore it")
        return champion.resolve(version)

    source = LedgerSource(champion.ledger, resolve, champion.secret)
    with background(source, SETTINGS) as url:
        client = connect(url)
        champion.ledger.promote(2, actor="test", why="broken")
        deadline = time.monotonic() + 5
        health: dict[str, object] = {}
        while "problem" not in health and time.monotonic() < deadline:
            health = client.get(f"{url}/health", cast_to=object)
        assert (health["status"], health["version"]) == ("ok", "1")
        assert health["problem"] == "artifact of version 2 is gone"
        assert text_of(ask(client)) == ANSWERS[0]
