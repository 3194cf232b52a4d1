"""What a client that leaves is charged: the prompt where a server has it, nothing where none has."""

import asyncio

import pytest
from test_upstream_faults import HELLO, engine_for, read, ready, run
from upstream_kit import Asking, Fake, chunk

from nacre.serve.engines import Finish, Sampling
from nacre.serve.engines.upstream import pool


async def hanging(asking: Asking) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_while_a_server_works_costs_the_prompt(stream: bool) -> None:
    async def main() -> None:
        async with Fake(reply=hanging).running() as fake:
            engine = engine_for(fake.url)
            generation = await engine.generate(await ready(engine), HELLO, Sampling(stream=stream))
            waiting = asyncio.ensure_future(generation.next())
            while not fake.asked:
                await asyncio.sleep(0.01)
            assert generation.prompt_tokens == 0, "unknown before the end"
            generation.cancel()
            assert await waiting == Finish("aborted", 0)
            assert generation.prompt_tokens > 5, "it has no head of an answer yet, and reads the prompt all the same"
            await engine.close()

    run(main)


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_before_a_connection_is_free_costs_nothing(stream: bool) -> None:
    async def main() -> None:
        async with Fake(reply=hanging).running() as fake:
            engine = engine_for(fake.url, max_connections=1)
            target = await ready(engine)
            first = await engine.generate(target, HELLO, Sampling())
            second = await engine.generate(target, HELLO, Sampling(stream=stream))
            waiting = asyncio.ensure_future(second.next())
            await asyncio.sleep(0.05)
            second.cancel()
            assert await waiting == Finish("aborted", 0)
            assert (len(fake.asked), second.prompt_tokens) == (1, 0)
            first.cancel()
            await engine.close()

    run(main)


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_between_two_tries_costs_nothing(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_PAUSE_S", 30.0)

    async def broken(asking: Asking) -> None:
        await asking.json({"error": {"message": "broken"}}, 500)

    async def main() -> None:
        async with Fake(reply=broken).running() as fake:
            engine = engine_for(fake.url, retries=2, retry_share=1.0)
            generation = await engine.generate(await ready(engine), HELLO, Sampling(stream=stream))
            waiting = asyncio.ensure_future(generation.next())
            while not fake.asked:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            generation.cancel()
            assert await waiting == Finish("aborted", 0)
            assert (len(fake.asked), generation.prompt_tokens) == (1, 0)
            await engine.close()

    run(main)


def test_one_that_never_asked_is_charged_nothing() -> None:
    async def main() -> None:
        async with Fake().running() as fake:
            engine = engine_for(fake.url)
            generation = await engine.generate(await ready(engine), HELLO, Sampling(stream=False))
            generation.cancel()
            assert (await generation.next(), generation.prompt_tokens) == (Finish("aborted", 0), 0)
            await engine.close()
            assert not fake.asked

    run(main)


def test_leaving_in_the_middle_of_a_stream_costs_the_prompt_and_what_came() -> None:
    async def half(asking: Asking) -> None:
        await asking.head()
        await asking.send(chunk("x" * 400))
        await asyncio.sleep(60)

    async def main() -> None:
        async with Fake(reply=half).running() as fake:
            engine = engine_for(fake.url)
            generation = await engine.generate(await ready(engine), HELLO, Sampling())
            await generation.next()
            generation.cancel()
            assert (await read(generation))[1] == Finish("aborted", 100)
            assert generation.prompt_tokens > 5
            await engine.close()

    run(main)
