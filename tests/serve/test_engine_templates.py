"""Chat templates come with the weights: whatever they do, the server goes on."""

import asyncio
import time
from typing import Any

import pytest
from engine_kit import chat, loaded, said, with_engine
from jinja2.exceptions import TemplateError
from serving_kit import ANSWERS, QUESTION, Shelf

from nacre.base.errors import InputError
from nacre.model import templates as known
from nacre.model.chat import check_system_places, prompt_ids, render
from nacre.model.load import load_tokenizer
from nacre.records import ChatTurn, Message
from nacre.serve.engines import Sampling
from nacre.serve.engines.embedded import EmbeddedEngine
from nacre.serve.engines.embedded.templates import Renderer

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a %}{% endfor %}{% endfor %}"
EVIL = {
    "endless": ENDLESS,
    "compiles for ever": "{{ 10 ** (10 ** 9) }}",
    "huge": "{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
    "one huge piece": "{{ 'x' * 10000000000 }}",
    "wide": "{{ '%9999999999d' % 1 }}",
    "escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "assignment": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "changes": "{{ messages.append(1) }}",
    "raises": "{{ raise_exception('no') }}",
    "broken": "{% for %}",
}


@pytest.fixture(scope="module")
def renderer():
    renderer = Renderer(seconds=3.0)
    yield renderer
    renderer.close()


@pytest.mark.parametrize("name", EVIL)
def test_a_template_that_breaks_its_limits_is_refused_and_the_next_is_rendered(renderer: Renderer, name: str) -> None:
    with pytest.raises(TemplateError):
        renderer.render(EVIL[name], {"messages": [{"role": "user", "content": "x"}]})
    assert renderer.render("{{ messages[0].content }}!", {"messages": [{"content": "层"}]}) == "层!"


@pytest.mark.parametrize("name", [*known.TEMPLATES, "default", "generation"])
def test_it_renders_what_transformers_renders(renderer: Renderer, shelf: Shelf, name: str) -> None:
    sources = {one: known.chat_template(one) for one in known.TEMPLATES}
    sources["default"] = known.DEFAULT_TEMPLATE
    sources["generation"] = (
        "{%- for m in messages -%}\n  {% if loop.index0 > 9 %}{% break %}{% endif %}"
        "{% generation %}{{ m | tojson }}{% endgeneration %}{{ namespace(a=1).a }}{{ dict(b=2).b }}\n{% endfor %}"
    )
    tokenizers = [load_tokenizer(shelf.weights(0)) for _ in range(2)]
    for tokenizer in tokenizers:
        tokenizer.chat_template = sources[name]
    renderer.take_over(tokenizers[0])
    chats = [
        [Message(role="user", content="<a> & 层?")],
        [*(Message(role=role, content=f" {role} ") for role in ("user", "assistant", "user", "assistant", "user"))],
    ]
    for turns in chats:
        for system in ("", "Be brief."):
            found, expected = (prompt_ids(tuple(turns), tokenizer, system=system) for tokenizer in tokenizers)
            assert found == expected


CHATML = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if m.role == 'system' and loop.index0 %}{{ raise_exception('no') }}{% endif %}"
    "{% endfor %}"
)
HOISTING = (
    "{% for m in messages if m.role == 'system' %}<s>{{ m.content }}\n{% endfor %}"
    "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
)
BETWEEN = ("user", "assistant", "system", "user")


@pytest.mark.parametrize(
    ("template", "roles", "fits"),
    [
        (CHATML, BETWEEN, True),
        (CHATML, ("user", "developer"), True),
        (known.DEFAULT_TEMPLATE, BETWEEN, True),
        (known.DEFAULT_TEMPLATE, ("user", "system"), False),  # nothing would ask for the answer
        (known.chat_template("qwen"), BETWEEN, False),  # says nothing of it
        (HOISTING, BETWEEN, False),
        (STRICT + CHATML, BETWEEN, False),
    ],
    ids=["chatml", "chatml last", "default", "default last", "leaves out", "moves", "raises"],
)
def test_a_later_system_message_stands_at_its_place_or_is_refused(
    shelf: Shelf, template: str, roles: tuple[str, ...], fits: bool
) -> None:
    tokenizer = load_tokenizer(shelf.weights(0))
    tokenizer.chat_template = template
    turns = tuple(ChatTurn(role=role, content=f"{role} says {place}") for place, role in enumerate(roles))
    if not fits:
        with pytest.raises(InputError, match=r"no place for a system message|refuses this conversation"):
            check_system_places(turns, tokenizer)
        return
    check_system_places(turns, tokenizer)
    text = render(turns, tokenizer, system="First.")
    places = [text.index(turn.content) for turn in turns]
    assert places == sorted(places)
    assert "First." in text[: places[0]]


def test_a_version_with_such_a_template_is_not_loaded_or_answers_nothing_and_others_do(shelf: Shelf, tmp_path) -> None:
    weights = shelf.weights(0)
    tokenizer = load_tokenizer(weights)
    for name, template in (
        ("evil", ENDLESS),
        ("sly", "{% if messages[0].content == 'now' %}" + ENDLESS + "{% endif %}{{ messages[0].content }}</s>"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for file in shelf.folders[0].iterdir():
            (folder / file.name).symlink_to(file)
        for file in ("chat_template.jinja", "tokenizer_config.json", "tokenizer.json"):
            (folder / file).unlink(missing_ok=True)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)

    async def scenario(engine):
        good = await loaded(engine, 1, weights)
        with pytest.raises(InputError, match="does not end"):
            await loaded(engine, 2, weights.changed(model=str(tmp_path / "evil")))
        sly = await loaded(engine, 3, weights.changed(model=str(tmp_path / "sly")))
        started = time.monotonic()
        evil = asyncio.ensure_future(engine.generate(sly, chat("now"), Sampling(max_tokens=2)))
        assert await said(engine, good, chat(QUESTION), Sampling(temperature=0)) == ANSWERS[0]
        with pytest.raises(InputError, match="does not end"):
            await evil
        assert time.monotonic() - started < 60
        assert await said(engine, good, chat(QUESTION), Sampling(temperature=0)) == ANSWERS[0]

    with_engine(scenario, template_s=1.0)


def test_no_version_waits_for_the_template_of_another(shelf: Shelf) -> None:
    async def scenario(engine: EmbeddedEngine) -> list[Any]:
        targets = [await loaded(engine, place + 1, shelf.weights(place)) for place in (0, 1)]
        renderers = [engine._residents[target].renderer for target in targets]
        processes = [renderer._process for renderer in renderers]
        assert None not in processes
        with renderers[0]._lock:  # as while its template is being rendered
            waits = asyncio.ensure_future(said(engine, targets[0], chat(QUESTION), Sampling(temperature=0)))
            await asyncio.sleep(0.1)
            text = await asyncio.wait_for(said(engine, targets[1], chat(QUESTION), Sampling(temperature=0)), 60)
        assert (text, await waits) == (ANSWERS[1], ANSWERS[0])
        await engine.unload(targets[1])
        until = time.monotonic() + 60
        while processes[1].poll() is None and time.monotonic() < until:  # freed between two steps
            await asyncio.sleep(0.01)
        assert processes[0].poll() is None
        return processes

    processes = with_engine(scenario)
    assert processes[0].pid != processes[1].pid
    assert all(process.poll() is not None for process in processes)
