"""Embeddings that a client asked for and did not wait for."""

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from gateway_kit import NamedEngine, make_hall, serving, until

from nacre.serve.engines import ENGINES, Embeddings, Target, TextPrompt


class SlowEngine(NamedEngine):
    """Makes embeddings that nobody waits for."""

    wanted = False

    async def embed(self, target: Target, inputs: Sequence[TextPrompt]) -> Embeddings:
        type(self).wanted = True
        await asyncio.sleep(60)
        return await super().embed(target, inputs)


def test_a_client_that_leaves_is_charged_for_what_it_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES._entries, "slow", "test_embeddings_left:SlowEngine")
    hall = make_hall(tmp_path / "space")
    made, secret = hall.ledger.keys.create("ann", ["infer"])
    body = json.dumps({"model": "bot", "input": ["x" * 400, "y" * 40]}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\ncontent-length: "
    with serving(hall, engine="slow") as server:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head.encode() + b"%d\r\n\r\n" % len(body) + body)
            until(lambda: SlowEngine.wanted)
            time.sleep(0.05)
        until(lambda: hall.ledger.keys.use("total").get(made.id, None) is not None)
        used = hall.ledger.keys.use("total")[made.id]
    assert (used.requests, used.tokens) == (1, 112)
    hall.space.close()
