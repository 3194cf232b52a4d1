"""What an upstream engine passes on as it is: system messages anywhere, and what a model says to itself."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from gateway_kit import make_hall, serving
from upstream_kit import DONE, USAGE, Asking, Fake, chunk

MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hello"},
    {"role": "system", "content": "Now speak French."},
    {"role": "user", "content": "again"},
]


def thought(text: str, name: str = "reasoning_content") -> bytes:
    choice = {"index": 0, "delta": {name: text}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


async def thinks(asking: Asking) -> None:
    """An answer after a thought, streamed or whole."""
    if asking.body.get("stream"):
        await asking.head()
        for part in (thought("Well"), thought(", so", "reasoning"), chunk("Hello"), chunk(None, "stop"), USAGE, DONE):
            await asking.send(part)
            await asyncio.sleep(0.01)
        return
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Well, so"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    await asking.json({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 7}})


@contextmanager
def upstream() -> Iterator[Fake]:
    """A fake server in a thread of its own."""
    started: Future[tuple[Fake, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        over = asyncio.Event()
        async with Fake(reply=thinks).running() as fake:
            started.set_result((fake, asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    fake, loop, over = started.result(20)
    yield fake
    loop.call_soon_threadsafe(over.set)
    thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[openai.OpenAI, Fake]]:
    hall = make_hall(tmp_path_factory.mktemp("passed") / "space")
    with upstream() as fake:
        settings = {"urls": (fake.url,), "models": {"1": "m"}, "health_s": 60}
        with serving(hall, engine="upstream", upstream=settings) as server:
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
            yield client, fake
    hall.space.close()


def test_system_messages_reach_an_upstream_wherever_they_stand(served: tuple[openai.OpenAI, Fake]) -> None:
    client, fake = served
    answer = client.chat.completions.create(model="bot", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"
    assert [(one["role"], one["content"]) for one in fake.asked[-1].body["messages"]] == [
        (one["role"], one["content"]) for one in MESSAGES
    ]


def test_what_a_model_says_to_itself_is_told_apart(served: tuple[openai.OpenAI, Fake]) -> None:
    client, _ = served
    whole = client.chat.completions.create(model="bot", messages=MESSAGES[1:2]).choices[0].message
    assert (whole.content, whole.model_extra) == ("Hello", {"reasoning_content": "Well, so"})
    deltas = [
        one.choices[0].delta for one in client.chat.completions.create(model="bot", messages=MESSAGES[1:2], stream=True)
    ]
    assert "".join((one.model_extra or {}).get("reasoning_content", "") for one in deltas) == "Well, so"
    assert "".join(one.content or "" for one in deltas) == "Hello"
