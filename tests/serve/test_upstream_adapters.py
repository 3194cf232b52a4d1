"""The ledger's versions on vLLM: they come and go by themselves. And which name a version has elsewhere."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from test_upstream_faults import HELLO, engine_for, read, run
from upstream_kit import Asking, Fake, FakeVllm, chunk

from nacre.base.errors import InputError, NacreError
from nacre.records import Weights
from nacre.serve.engines import EngineError, Sampling, Target


def adapter(folder: Path, number: int, **config: object) -> Target:
    folder = folder / f"adapter-{number}"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | config))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return Target(number, Weights(identity=f"{number}" * 64, model="/models/base", adapter=folder))


async def until(true: object, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():  # type: ignore[operator]  # a function, so that it is asked again
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_adapters_come_with_load_and_go_after_the_last_answer(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def held(asking: Asking) -> None:
        if not asking.body.get("stream"):
            await asking.json({"choices": [{"text": "x", "finish_reason": "length"}]})
            return
        await asking.head()
        await asking.send(chunk(asking.model))
        await gate.wait()
        await asking.send(chunk("!", "stop"))

    async def main() -> None:
        async with FakeVllm().running() as one, FakeVllm().running() as two:
            one.reply = two.reply = held
            engine = engine_for(one.url, two.url, kind="vllm")
            old, new = adapter(tmp_path, 1), adapter(tmp_path, 2)
            await engine.load(old)
            await engine.load(old)
            name = "nacre-1-111111111111"
            assert one.calls == two.calls == [("load", name)], "once on every server"
            running = [await engine.generate(old, HELLO, Sampling()) for _ in range(2)]
            await engine.load(new)
            await engine.unload(old)
            with pytest.raises(EngineError, match="not loaded"):
                await engine.generate(old, HELLO, Sampling())
            assert engine.loaded == (new,)
            assert ("unload", name) not in one.calls + two.calls, "answers are still running on it"
            gate.set()
            for generation in running:
                assert (await read(generation))[0] == f"{name}!"
            await until(lambda: ("unload", name) in one.calls and ("unload", name) in two.calls)
            assert [card["id"] for card in one.models] == ["base", "nacre-2-222222222222"]
            await engine.close()
            assert len(one.models) == 2, "a gateway that stops takes nothing with it"

    run(main)


def test_a_server_that_was_started_again_gets_its_adapters_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeVllm().running() as fake:
            target = adapter(tmp_path, 1)
            for health_s in (60, 0.05):  # at the next request, and without any
                engine = engine_for(fake.url, kind="vllm", health_s=health_s)
                await engine.load(target)
                fake.restart()
                if health_s < 1:
                    await until(lambda: len(fake.models) == 2)
                assert (await read(await engine.generate(target, HELLO, Sampling())))[0] == "Hello"
                await engine.close()

    run(main)


def test_a_server_that_was_away_at_the_loading_gets_the_adapter_when_it_comes(tmp_path: Path) -> None:
    async def main() -> None:
        late = FakeVllm()
        async with late.running():
            pass
        async with FakeVllm().running() as fine:
            engine = engine_for(late.url, fine.url, kind="vllm", health_s=0.05)
            await engine.load(adapter(tmp_path, 1))
            async with late.running(late.port):
                await until(lambda: len(late.models) == 2)
                await engine.close()

    run(main)


def test_that_the_server_says_200_is_not_believed(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeVllm().running() as fake:
            fake.believes_everything = True
            engine = engine_for(fake.url, kind="vllm", folders={str(tmp_path): "/nowhere"})
            with pytest.raises(EngineError, match="cannot answer with the adapter"):
                await engine.load(adapter(tmp_path, 1))
            assert engine.loaded == ()
            assert len(fake.models) == 1, "what cannot answer is taken away again"
            await engine.close()

    run(main)


def test_what_the_server_refuses_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeVllm().running() as fake:
            engine = engine_for(fake.url, kind="vllm", folders={str(tmp_path): "/nowhere"})
            with pytest.raises(NacreError, match="No adapter found"):
                await engine.load(adapter(tmp_path, 1))
            fake.static = True
            with pytest.raises(NacreError, match="lets no adapter") as caught:
                await engine.load(adapter(tmp_path, 2))
            assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in caught.value.fix
            await engine.close()

    run(main)


def test_two_gateways_share_a_server(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeVllm().running() as fake:
            target = adapter(tmp_path, 1)
            engines = [engine_for(fake.url, kind="vllm") for _ in range(2)]
            await asyncio.gather(*(engine.load(target) for engine in engines))
            await engines[0].unload(target)
            assert (await read(await engines[1].generate(target, HELLO, Sampling())))[0] == "Hello"
            for engine in engines:
                await engine.close()

    run(main)


def test_adapters_that_vllm_cannot_serve_are_refused_before_it_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeVllm().running() as fake:
            engine = engine_for(fake.url, kind="vllm")
            routed = adapter(tmp_path, 1)
            (Path(routed.weights.folder) / "router.json").write_text("{}")
            pickled = adapter(tmp_path, 2)
            (Path(pickled.weights.folder) / "adapter_model.safetensors").unlink()
            dora = adapter(tmp_path, 3, use_dora=True)
            prompts = adapter(tmp_path, 4, peft_type="PROMPT_TUNING")
            for target, reason in ((routed, "router"), (pickled, "safetensors"), (dora, "LoRA"), (prompts, "PROMPT")):
                with pytest.raises(InputError, match=reason):
                    await engine.load(target)
            assert fake.calls == []
            await engine.close()

    run(main)


def _full(number: int, model: str = "hub/name") -> Target:
    return Target(number, Weights(identity=f"{number}" * 64, model=model))


def test_a_full_model_is_the_servers_own(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with FakeVllm(base="/theirs/abc").running() as fake:
            engine = engine_for(fake.url, kind="vllm", folders={"/ours": "/theirs"})
            await engine.load(_full(1, "/ours/abc"))
            with pytest.raises(NacreError, match="no upstream has version 2"):
                await engine.load(_full(2, "/ours/other"))
            await engine.load(_full(3))
            await engine.close()

    with pytest.raises(NacreError, match="answers for version 1 already"):
        run(main)
    assert "answers for version 3: unchecked" in caplog.text


def test_names_are_mapped_by_version() -> None:
    async def main() -> None:
        async with Fake(models=[{"id": "small"}, {"id": "large"}]).running() as fake:
            engine = engine_for(fake.url, models={"7": "large"})
            with pytest.raises(NacreError, match="no upstream has version 1; they have: large, small") as caught:
                await engine.load(_full(1))
            assert "'1': NAME" in caught.value.fix
            await engine.load(_full(7))
            await read(await engine.generate(_full(7), HELLO, Sampling()))
            assert fake.asked[0].model == "large"
            await engine.close()
            strict = engine_for(fake.url, models={"*": "small"})
            await strict.load(_full(1))
            with pytest.raises(NacreError, match="cannot be version 2 as well"):
                await strict.load(_full(2))
            await strict.close()

    run(main)


def test_a_nacre_is_asked_for_the_same_version() -> None:
    async def main() -> None:
        async with Fake(models=[{"id": "bot"}, {"id": "bot:champion"}, {"id": "bot@7"}]).running() as fake:
            engine = engine_for(fake.url, kind="nacre")
            await engine.load(_full(7))
            await read(await engine.generate(_full(7), HELLO, Sampling(top_k=3)))
            assert (fake.asked[0].model, fake.asked[0].body["top_k"]) == ("bot@7", 3)
            fake.models.append({"id": "bot@8"})
            await engine.load(_full(8))  # it follows the ledger a moment later than we do
            await engine.close()

    run(main)


def test_a_llamacpp_that_is_still_loading_is_waited_for() -> None:
    class Llama(Fake):
        healthy = 0

        async def answer(self, asking: Asking) -> None:
            if asking.path == "/health":
                self.healthy += 1
                await asking.json({"status": "ok"}, 200 if self.healthy > 2 else 503)
            else:
                await super().answer(asking)

    async def main() -> None:
        async with Llama(models=[{"id": "model.gguf"}]).running() as fake:
            engine = engine_for(fake.url, kind="llamacpp")
            await engine.load(_full(1))
            await read(await engine.generate(_full(1), HELLO, Sampling(repetition_penalty=1.1)))
            assert (fake.asked[0].model, fake.asked[0].body["repeat_penalty"]) == ("model.gguf", 1.1)
            await engine.close()

    run(main)


def test_no_server_at_all_is_told() -> None:
    async def main() -> None:
        fake = Fake()
        async with fake.running():
            pass
        engine = engine_for(fake.url, load_s=0.3)
        with pytest.raises(EngineError, match="no upstream answers"):
            await engine.load(_full(1))
        await engine.close()

    run(main)
