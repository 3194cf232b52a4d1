"""Several upstreams: which one answers, what is tried again, and what is left alone."""

import asyncio
import time

import pytest
from test_upstream_faults import HELLO, engine_for, read, ready, run
from upstream_kit import Asking, Fake, chunk, good, streams

from nacre.serve.engines import Delta, EngineError, Finish, Overloaded, Sampling
from nacre.serve.engines.upstream.breaker import Breaker, Budget


async def broken(asking: Asking) -> None:
    await asking.json({"error": {"message": "broken"}}, 500)


def test_the_least_busy_answers_and_equals_take_turns() -> None:
    gate = asyncio.Event()

    async def held(asking: Asking) -> None:
        await asking.head()
        await asking.send(chunk("a"))
        await gate.wait()
        await asking.send(chunk("b", "stop"))

    async def main() -> None:
        async with Fake(reply=held).running() as one, Fake(reply=held).running() as two:
            engine = engine_for(one.url, two.url)
            target = await ready(engine)
            begun = [await engine.generate(target, HELLO, Sampling()) for _ in range(6)]
            assert (len(one.asked), len(two.asked)) == (3, 3)
            for generation in begun[:4:2]:  # two of the same server end early
                generation.cancel()
            more = [await engine.generate(target, HELLO, Sampling()) for _ in range(2)]
            assert sorted((len(one.asked), len(two.asked))) == [3, 5], "the two free places are filled first"
            gate.set()
            for generation in (begun[1], *more):
                assert (await read(generation))[0] == "ab"
            await engine.close()

    run(main)


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_before_the_first_byte_is_tried_on_another(stream: bool) -> None:
    async def hangs_up(asking: Asking) -> None:
        return

    async def hangs_up_after_the_head(asking: Asking) -> None:
        await asking.head(200, "text/event-stream" if stream else "application/json")

    async def main() -> None:
        for reply in (broken, hangs_up, hangs_up_after_the_head):
            async with Fake(reply=reply).running() as bad, Fake().running() as fine:
                engine = engine_for(bad.url, fine.url)
                target = await ready(engine)
                for _ in range(6):
                    text, finish = await read(await engine.generate(target, HELLO, Sampling(stream=stream)))
                    assert (text, finish.reason) == ("Hello", "stop")
                assert bad.asked, "it was never asked"
                await engine.close()

    run(main)


def test_after_the_first_byte_nothing_is_tried_again() -> None:
    async def main() -> None:
        reply = streams(chunk("Hel"))
        async with Fake(reply=reply).running() as one, Fake(reply=reply).running() as two:
            engine = engine_for(one.url, two.url)
            generation = await engine.generate(await ready(engine), HELLO, Sampling())
            assert await generation.next() == Delta("Hel")
            for _ in range(2):  # the same, however often it is asked
                with pytest.raises(EngineError, match="broke off"):
                    await generation.next()
            assert len(one.asked) + len(two.asked) == 1
            await engine.close()

    run(main)


def test_a_server_that_fails_is_left_alone_and_one_request_probes_it() -> None:
    async def main() -> None:
        async with Fake(reply=broken).running() as fake:
            engine = engine_for(fake.url, retries=0, breaker_failures=3, breaker_open_s=0.3)
            target = await ready(engine)
            for _ in range(3):
                with pytest.raises(EngineError, match="status 500"):
                    await engine.generate(target, HELLO, Sampling())
            for _ in range(3):
                with pytest.raises(EngineError, match="no upstream answers"):
                    await engine.generate(target, HELLO, Sampling())
            assert len(fake.asked) == 3, "an open breaker lets nothing through"
            await asyncio.sleep(0.35)
            with pytest.raises(EngineError, match="status 500"):
                await engine.generate(target, HELLO, Sampling())
            with pytest.raises(EngineError, match="no upstream answers"):
                await engine.generate(target, HELLO, Sampling())
            fake.reply = good
            await asyncio.sleep(0.35)
            for _ in range(2):
                assert (await read(await engine.generate(target, HELLO, Sampling())))[0] == "Hello"
            await engine.close()

    run(main)


def test_one_probe_at_a_time_and_a_cancelled_one_decides_nothing() -> None:
    breaker = Breaker(failures=1, open_s=0.0)
    breaker.sent()
    breaker.failed()
    assert breaker.admits()
    breaker.sent()
    assert (breaker.state, breaker.admits()) == ("half-open", False)
    breaker.gave_up()
    assert breaker.admits()
    breaker.sent()
    breaker.succeeded()
    assert (breaker.state, breaker.admits()) == ("closed", True)


def test_retries_are_a_share_of_the_requests() -> None:
    budget = Budget(0.1)
    while budget.spend():
        pass
    for _ in range(30):
        budget.earn()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    assert not Budget(0).spend()


def test_overload_is_passed_on_when_nobody_has_room() -> None:
    async def busy(asking: Asking) -> None:
        await asking.json({"error": {"message": "full"}}, 429)

    async def main() -> None:
        async with Fake(reply=busy).running() as one, Fake(reply=busy).running() as two:
            engine = engine_for(one.url, two.url, retries=1)
            with pytest.raises(Overloaded, match="full"):
                await engine.generate(await ready(engine), HELLO, Sampling())
            assert (len(one.asked), len(two.asked)) == (1, 1)
            await engine.close()

    run(main)


def test_waiting_requests_are_bounded_and_a_cancelled_one_gives_its_place_back() -> None:
    async def silent(asking: Asking) -> None:
        await asking.head()
        await asyncio.sleep(60)

    async def main() -> None:
        async with Fake(reply=silent).running() as fake:
            engine = engine_for(fake.url, max_waiting=2)
            target = await ready(engine)
            begun = [await engine.generate(target, HELLO, Sampling()) for _ in range(2)]
            with pytest.raises(Overloaded):
                await engine.generate(target, HELLO, Sampling())
            assert engine.waiting == 2
            begun[0].cancel()
            assert await begun[0].next() == Finish("aborted", 0)
            third = await engine.generate(target, HELLO, Sampling())
            await engine.close()
            for generation in (begun[1], third):
                with pytest.raises(EngineError, match="stopped"):
                    await generation.next()

    run(main)


@pytest.mark.parametrize("stream", [True, False])
def test_cancelling_closes_the_connection_while_somebody_waits(stream: bool) -> None:
    gone = asyncio.Event()

    async def slow(asking: Asking) -> None:
        if stream:
            await asking.head()
        try:
            while True:
                await asyncio.sleep(0.01)
                if stream:
                    await asking.send(b": still there\n\n")
                elif asking.reader.at_eof():
                    break
        finally:
            gone.set()

    async def main() -> None:
        async with Fake(reply=slow).running() as fake:
            engine = engine_for(fake.url)
            generation = await engine.generate(await ready(engine), HELLO, Sampling(stream=stream))
            waiting = asyncio.ensure_future(generation.next())
            await asyncio.sleep(0.05)
            assert len(fake.asked) == 1
            generation.cancel()
            assert await waiting == Finish("aborted", 0)
            await asyncio.wait_for(gone.wait(), 10)
            await engine.close()

    run(main)


@pytest.mark.parametrize("stream", [True, False])
def test_connections_are_used_again(stream: bool) -> None:
    async def main() -> None:
        async with Fake().running() as fake:
            engine = engine_for(fake.url)
            target = await ready(engine)
            for _ in range(20):
                assert (await read(await engine.generate(target, HELLO, Sampling(stream=stream))))[0] == "Hello"
            await engine.close()
            assert fake.connections <= 2

    run(main)


def test_a_server_that_starts_later_is_found_and_one_that_died_is_passed_over() -> None:
    async def main() -> None:
        async with Fake().running() as fine:
            late = Fake()
            async with late.running():
                pass  # only its address is wanted
            engine = engine_for(late.url, fine.url, health_s=0.05, connect_s=0.5)
            target = await ready(engine)
            for _ in range(4):
                assert (await read(await engine.generate(target, HELLO, Sampling())))[0] == "Hello"
            async with late.running(late.port):
                deadline = time.monotonic() + 20
                while not late.asked and time.monotonic() < deadline:
                    await read(await engine.generate(target, HELLO, Sampling()))
                    await asyncio.sleep(0.02)
                assert late.asked
            for _ in range(4):
                assert (await read(await engine.generate(target, HELLO, Sampling())))[0] == "Hello"
            await engine.close()

    run(main)


@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_that_was_closed_meanwhile_is_no_failure(stream: bool) -> None:
    answered: set[asyncio.StreamWriter] = set()

    async def once(asking: Asking) -> None:
        if asking.writer in answered:
            asking.writer.close()
            raise ConnectionError
        answered.add(asking.writer)
        await good(asking)

    class Closing(Fake):
        async def answer(self, asking: Asking) -> None:
            if asking.path.endswith("completions"):
                await once(asking)
            else:
                await super().answer(asking)

    async def main() -> None:
        async with Closing().running() as fake:
            engine = engine_for(fake.url, retries=0, breaker_failures=1)
            target = await ready(engine)
            for _ in range(6):
                assert (await read(await engine.generate(target, HELLO, Sampling(stream=stream))))[0] == "Hello"
            assert len(fake.asked) > 6, "no connection was used twice"
            await engine.close()

    run(main)
