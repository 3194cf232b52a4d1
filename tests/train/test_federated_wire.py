"""The way between machines: real sockets, parties that join, leave, fall silent, or are not let in."""

import json
import threading
import time

import numpy as np
import pytest

from federated_kit import TERMS, Scripted, adapter
from nacre.base.errors import InputError, NacreError
from nacre.records import Federating
from nacre.train.federated.party import Door
from nacre.train.federated.terms import Terms

pytest.importorskip("flwr", reason="needs nacre[federated]")

import grpc

from nacre.train.federated import joining, wire
from nacre.train.federated.rounds import Rounds
from nacre.train.federated.wire import SERVICE, TOKEN, Exchange

SECRETS = {"north": "n" * 20, "south": "s" * 20}


@pytest.fixture(autouse=True)
def _brisk(monkeypatch):
    monkeypatch.setattr(joining, "ASK_S", 0.02)


@pytest.fixture
def exchange(request):
    made = []

    def listen(**options):
        terms = Terms.model_validate(TERMS).model_dump_json()
        made.append(Exchange("127.0.0.1:0", terms, 1 << 20, **options))
        return made[-1]

    yield listen
    for one in made:
        one.close()


class Joined(threading.Thread):
    """A party that takes part from a thread of this process."""

    def __init__(self, port, party, **door):
        super().__init__(daemon=True)
        self.door, self.party = Door(f"127.0.0.1:{port}", patience_s=1.0, **door), party
        self.answered, self.error, self.said = None, None, []
        self.start()

    def run(self):
        try:
            self.answered = joining.join(self.door, lambda _: self.party, self.said.append)
        except NacreError as error:
            self.error = error


def rounds(grid, **how):
    return Rounds(Federating.model_validate({"rounds": 2, **how}), grid, wait_s=60.0, timeout_s=60.0).run(adapter())


def test_parties_that_know_their_secret_take_part_until_the_end(exchange):
    said = []
    grid = exchange(parties=SECRETS, tell=said.append)
    joined = [Joined(grid.port, Scripted(0.1), name=name, secret=secret) for name, secret in SECRETS.items()]
    arrays, told = rounds(grid)
    grid.close()
    for one in joined:
        one.join(30)
    assert [one.answered for one in joined] == [2, 2], [one.error for one in joined]
    assert [one.counted for one in told] == [2, 2]
    assert np.allclose(arrays["q.lora_A"], adapter()["q.lora_A"] + 0.2, atol=1e-5)
    assert {"north has joined", "south has joined"} <= set(said)
    assert joined[0].said[0] == "taking part as north: feed"


def test_who_does_not_know_it_is_not_let_in(exchange):
    grid = exchange(parties=SECRETS)
    for name, secret in (("north", "s" * 20), ("west", "n" * 20), ("", "")):
        one = Joined(grid.port, Scripted(0.1), name=name, secret=secret)
        one.join(30)
        assert isinstance(one.error, InputError)
        assert "no party of that name and secret" in str(one.error)
    assert list(grid.get_node_ids()) == []
    channel = grpc.insecure_channel(f"127.0.0.1:{grid.port}")
    for call in ("Next", "Reply", "Alive", "Leave"):
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/{SERVICE}/{call}")(b"", metadata=((TOKEN, "guessed"),), timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    for body in (b"", b"[]", b'{"protocol": 99}'):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/{SERVICE}/Join")(body, timeout=10)
    channel.close()


def seat(grid):
    """A party by hand: a function that calls for it."""
    channel = grpc.insecure_channel(f"127.0.0.1:{grid.port}")
    asked = json.dumps({"protocol": 1, "name": "", "secret": ""}).encode()
    found = json.loads(channel.unary_unary(f"/{SERVICE}/Join")(asked, timeout=10))
    return lambda call, body=b"": channel.unary_unary(f"/{SERVICE}/{call}")(
        body, metadata=((TOKEN, found["token"]),), timeout=10
    )


def test_a_party_that_falls_silent_is_not_waited_for(exchange):
    grid = exchange(lost_after_s=2.0)
    call = seat(grid)
    joined = [Joined(grid.port, Scripted(0.1)) for _ in range(2)]
    while len(list(grid.get_node_ids())) < 3:
        call("Alive")
        time.sleep(0.02)
    _, told = rounds(grid)
    grid.close()
    assert (told[0].asked, told[0].counted, told[0].silent) == (3, 2, 1)
    assert (told[1].asked, told[1].counted) == (2, 2)
    for one in joined:
        one.join(30)
    assert [one.answered for one in joined] == [2, 2]


def test_a_message_that_did_not_arrive_is_handed_out_again(exchange):
    from flwr.app import Message, RecordDict

    from nacre.train.federated.grid import from_bytes, to_bytes

    grid = exchange()
    call = seat(grid)
    [node] = grid.get_node_ids()
    [ident] = grid.push_messages([Message(RecordDict(), node, "train")])
    lost, again = call("Next"), call("Next")
    assert lost == again != b"\x00"
    call("Reply", to_bytes(Message(RecordDict(), reply_to=from_bytes(again[1:]))))
    assert call("Next") == b"\x00"
    assert len(list(grid.pull_messages([ident]))) == 1


def test_whoever_comes_again_and_again_takes_one_seat(exchange, monkeypatch):
    monkeypatch.setattr(wire, "MOST_PARTIES", 2)
    grid = exchange()
    for _ in range(5):
        call = seat(grid)
        call("Leave")
    for _ in range(2):
        seat(grid)
    with pytest.raises(grpc.RpcError) as refused:
        seat(grid)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_nobody_answers_for_another(exchange):
    from flwr.app import Message, RecordDict

    from nacre.train.federated.grid import from_bytes, to_bytes

    grid = exchange()
    first, second = seat(grid), seat(grid)
    node = next(iter(grid.get_node_ids()))
    [ident] = grid.push_messages([Message(RecordDict(), node, "train")])
    message = from_bytes(first("Next")[1:])
    answer = to_bytes(Message(RecordDict(), reply_to=message))
    assert second("Next") == b"\x00"
    second("Reply", answer)
    assert list(grid.pull_messages([ident])) == []
    with pytest.raises(grpc.RpcError) as refused:
        first("Reply", b"\xff\xff no message")
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    first("Reply", answer)
    first("Reply", answer)  # once is enough
    assert [one.metadata.src_node_id for one in grid.pull_messages([ident])] == [node]
    first("Leave")
    assert node not in list(grid.get_node_ids())


def test_the_server_is_named_when_it_does_not_answer():
    one = Joined(1, Scripted(0.1))
    one.join(30)
    assert "the server does not answer" in str(one.error)


def test_an_address_that_is_taken_is_named(exchange):
    grid = exchange()
    with pytest.raises(NacreError, match="cannot listen for parties"):
        Exchange(f"127.0.0.1:{grid.port}", "{}", 1)
