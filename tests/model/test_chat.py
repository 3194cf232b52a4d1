import json
import os
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from nacre.base.errors import InputError
from nacre.model.chat import (
    DEFAULT_TEMPLATE,
    IGNORED,
    encode,
    encode_text,
    ensure_template,
    prompt_ids,
    render,
    shorten,
    stop_ids,
)
from nacre.records import Example, Message

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMING = (  # as Llama 3: contents are trimmed, and the end of a turn is not the end of the sequence
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|head|>' + m['role'] + '<|/head|>\n\n' + m['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)
FORGETTING_THOUGHTS = (  # as Qwen 3 and DeepSeek R1: thoughts stand only in the last turn
    "{% for m in messages %}{% set text = m['content'] %}"
    "{% if m['role'] == 'assistant' and not loop.last %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
EMPTY_THOUGHT = (  # as Qwen 3: an answer without a thought is written with an empty one
    "{% for m in messages %}{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m['content'] + '<|im_end|>\n' }}{% else %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPACED = (  # as Llama 2 and Mistral: a space around the answer, no marker before it
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}"
    "{% elif m['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
PLAIN_END = (  # as Alpaca: nothing but line feeds after an answer
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] + '\n\n' }}"
    "{% else %}{{ '### ' + m['content'] + '\n\n### Response:\n' }}{% endif %}{% endfor %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
SHAPES = {  # template, its tokens, what stands before an answer, what ends it
    "default": (None, (), "", "</s>"),
    "chatml": (CHATML, CHATML_TOKENS, "", "<|im_end|>"),
    "trimming": (TRIMMING, ("<|head|>", "<|/head|>", "<|eot|>"), "", "<|eot|>"),
    "forgetting": (FORGETTING_THOUGHTS, CHATML_TOKENS, "", "<|im_end|>"),
    "empty_thought": (EMPTY_THOUGHT, CHATML_TOKENS, "", "<|im_end|>"),
    "spaced": (SPACED, (), " ", " </s>"),
    "plain_end": (PLAIN_END, (), "", "</s>"),
}


def turn(role: str, content: str) -> Message:
    return Message(role=role, content=content)


def row(*turns: Message, **options) -> Example:
    return Example(prompt=turns[:-1], answers=turns[-1:], **options)


U1, A1 = turn("user", "hello"), turn("assistant", "hi there")
U2, A2 = turn("user", "bye"), turn("assistant", "see you")
CHINESE = row(turn("user", "今天天气怎么样？"), turn("assistant", "很好，再见！"))


def trained_texts(tokenizer, encoded) -> list[str]:
    """The text of every run of trained tokens, special tokens included."""
    runs, run = [], []
    for token, label in zip([*encoded.input_ids, None], [*encoded.labels, IGNORED], strict=True):
        if label != IGNORED:
            assert label == token
            run.append(token)
        elif run:
            runs.append(tokenizer.decode(run))
            run = []
    return runs


@pytest.fixture(params=SHAPES)
def shape(request, bpe):
    template, extra, lead, ending = SHAPES[request.param]
    tokenizer = bpe(template, extra)
    ensure_template(tokenizer)
    return request.param, tokenizer, lead, ending


@pytest.mark.parametrize("example", [row(U1, A1), CHINESE, row(U1, turn("assistant", "assistant user"))])
def test_exactly_the_answer_and_the_token_that_ends_it_are_trained(shape, example):
    _, tokenizer, lead, ending = shape
    encoded = encode(example, tokenizer, 512)
    assert trained_texts(tokenizer, encoded) == [lead + example.answer + ending]
    assert encoded.cut == 0


@pytest.mark.parametrize("turns", [(U1, A1), (U1, A1, U2, A2), (*CHINESE.prompt, *CHINESE.answers, U2, A2)])
def test_training_reads_the_very_tokens_that_serving_asks_with(shape, turns):
    _, tokenizer, *_ = shape
    encoded = encode(row(*turns), tokenizer, 512)
    asked = prompt_ids(turns[:-1], tokenizer)
    assert encoded.input_ids[: len(asked)] == asked
    assert encoded.labels[len(asked) - 1] == IGNORED
    assert IGNORED not in encoded.labels[len(asked) :]
    assert tokenizer.decode(asked) == render(turns[:-1], tokenizer)


def test_every_answer_of_a_dialogue_is_trained(shape):
    name, tokenizer, lead, ending = shape
    texts = trained_texts(tokenizer, encode(row(U1, A1, U2, A2), tokenizer, 512))
    both = [lead + "hi there" + ending, lead + "see you" + ending]
    assert texts == (both[1:] if name == "plain_end" else both)  # there, the next turn follows without an end


def test_answers_whose_thoughts_the_template_drops_later_are_not_trained_in_the_middle(bpe):
    tokenizer = bpe(FORGETTING_THOUGHTS, CHATML_TOKENS)
    thinking = row(U1, turn("assistant", "<think>hm</think>hi"), U2, turn("assistant", "<think>so</think>see you"))
    encoded = encode(thinking, tokenizer, 512)
    assert trained_texts(tokenizer, encoded) == ["<think>so</think>see you<|im_end|>"]
    assert "hm" not in tokenizer.decode(encoded.input_ids)


def test_a_template_that_strips_answers_is_followed(bpe):
    tokenizer = bpe(TRIMMING, SHAPES["trimming"][1])
    dialogue = row(U1, turn("assistant", " hi there\n"), U2, turn("assistant", "see you  "))
    assert trained_texts(tokenizer, encode(dialogue, tokenizer, 512)) == ["hi there<|eot|>", "see you<|eot|>"]
    kept = encode(row(U1, turn("assistant", " hi there\n")), bpe(CHATML, CHATML_TOKENS), 512)
    assert trained_texts(bpe(CHATML, CHATML_TOKENS), kept) == [" hi there\n<|im_end|>"]


def test_an_empty_answer_trains_the_end_alone(shape):
    _, tokenizer, lead, ending = shape
    assert trained_texts(tokenizer, encode(row(U1, turn("assistant", "")), tokenizer, 512)) == [lead + ending]


def test_tool_calls_are_trained_and_what_the_tool_says_is_not(bpe):
    tokenizer = bpe(CHATML, CHATML_TOKENS)
    call, told = turn("function", '{"name": "time"}'), turn("observation", "noon")
    encoded = encode(row(U1, call, told, A2), tokenizer, 512)
    assert trained_texts(tokenizer, encoded) == ['{"name": "time"}<|im_end|>', "see you<|im_end|>"]
    assert "<|im_start|>tool\nnoon" in tokenizer.decode(encoded.input_ids)


def test_an_answer_is_stopped_by_what_ended_it_in_training(shape):
    _, tokenizer, _, ending = shape
    expected = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(ending.strip())}
    assert stop_ids(tokenizer) == expected
    last = encode(row(U1, A1), tokenizer, 512).input_ids[-1]
    assert last in stop_ids(tokenizer)


def test_a_system_turn_comes_first_or_is_refused_in_words(bpe):
    tokenizer = bpe(CHATML, CHATML_TOKENS)
    told = row(U1, A1, system="be brief")
    assert tokenizer.decode(encode(told, tokenizer, 512).input_ids).startswith("<|im_start|>system\nbe brief<|im_end|>")
    with pytest.raises(InputError) as refused:
        encode(told, bpe(SPACED), 512)
    assert "System role not supported" in refused.value.what
    assert refused.value.where == "roles system → user"


def test_tools_that_are_no_json_are_named(bpe):
    with pytest.raises(InputError, match="the tools are not JSON"):
        render((U1,), bpe(CHATML, CHATML_TOKENS), tools="{not json")


def test_a_tokenizer_keeps_its_own_template(bpe):
    own, none = bpe(CHATML, CHATML_TOKENS), bpe()
    assert not ensure_template(own)
    assert own.chat_template == CHATML
    assert ensure_template(none)
    assert none.chat_template == DEFAULT_TEMPLATE


def test_a_changed_template_is_seen_at_once(bpe):
    tokenizer = bpe(PLAIN_END, CHATML_TOKENS)
    assert stop_ids(tokenizer) == {tokenizer.eos_token_id}
    tokenizer.chat_template = CHATML
    assert stop_ids(tokenizer) == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_too_long_a_row_keeps_its_beginning_its_marker_and_its_answer(bpe):
    tokenizer = bpe(CHATML, CHATML_TOKENS)
    long = row(turn("user", "hello " * 60), A1)
    whole, cut = encode(long, tokenizer, 512), encode(long, tokenizer, 48)
    answer = sum(label != IGNORED for label in whole.labels)
    asked = prompt_ids(long.prompt, tokenizer)
    assert len(cut.input_ids) == 48
    assert cut.cut == len(whole.input_ids) - 48
    assert cut.input_ids[-answer:] == whole.input_ids[-answer:]
    assert cut.input_ids[: 48 - answer] == shorten(asked, 48 - answer)
    assert shorten(asked, 32)[:16] == asked[:16]
    assert shorten(asked, 32)[16:] == asked[-16:]
    assert trained_texts(tokenizer, cut) == ["hi there<|im_end|>"]


def test_an_answer_that_does_not_fit_alone_is_cut_at_its_end(bpe):
    tokenizer = bpe(CHATML, CHATML_TOKENS)
    long = row(U1, turn("assistant", "hi there " * 40))
    whole, cut = encode(long, tokenizer, 2048), encode(long, tokenizer, 20)
    answer = [label for label in whole.labels if label != IGNORED]
    assert len(cut.input_ids) == 20
    assert cut.labels == [IGNORED, *answer[:19]]
    assert cut.cut == len(whole.input_ids) - 20


def test_texts_are_laid_end_to_end_in_full_blocks(bpe):
    tokenizer = bpe()
    texts = ["hello there. " * 5, "今天天气很好。", "x"]
    stream = [token for text in texts for token in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)]
    blocks = encode_text(texts, tokenizer, 16)
    assert [len(block.input_ids) for block in blocks[:-1]] == [16] * (len(blocks) - 1)
    assert [token for block in blocks for token in block.input_ids] == stream
    assert all(block.labels == block.input_ids for block in blocks)


@pytest.fixture(scope="session")
def shared_llamafactory() -> Path:
    shared = Path(os.environ.get("NACRE_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "llamafactory"
    if not folder.is_dir():
        pytest.skip("needs the shared data folder (NACRE_SHARED)")
    return folder


@pytest.mark.shared
def test_the_default_template_is_llamafactorys_with_the_end_token_after_answers_only(shared_llamafactory):
    golden = json.loads((shared_llamafactory / "golden" / "templates.json").read_text(encoding="utf-8"))["default"]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(shared_llamafactory / "tiny_tokenizer")
    tokenizer.chat_template = DEFAULT_TEMPLATE
    end = tokenizer.eos_token
    assert golden[0]["prompt"].count(end) == 2, "the golden text must have what ours leaves out"
    first = render((U1,), tokenizer, system="be brief")
    assert first == golden[0]["prompt"].replace(end, "")
    second = render((U1, A1, U2), tokenizer, system="be brief")
    assert second == first + golden[0]["response"] + golden[1]["prompt"].replace(end, "")
    assert trained_texts(tokenizer, encode(row(U1, A1, system="be brief"), tokenizer, 512)) == ["hi there" + end]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["qwen", "llama3", "chatml", "phi"])
def test_the_trained_answers_are_llamafactorys(shared_llamafactory, bpe, name):
    golden = json.loads((shared_llamafactory / "golden" / "templates.json").read_text(encoding="utf-8"))[name]
    prompts, answers = [turn["prompt"] for turn in golden], [turn["response"] for turn in golden]
    special = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end|>")
    cases = {
        "qwen": CHATML,
        "chatml": CHATML,
        "llama3": "{{ '<|bos|>' }}"
        + TRIMMING.removeprefix("{{ bos_token }}")
        .replace("<|head|>", "<|start_header_id|>")
        .replace("<|/head|>", "<|end_header_id|>")
        .replace("<|eot|>", "<|eot_id|>"),
        "phi": "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    }
    tokenizer = bpe(cases[name], special)
    encoded = encode(row(U1, A1, U2, A2, system="be brief"), tokenizer, 512)
    # LlamaFactory also trains the line feed after the end token, which nothing waits for
    assert tokenizer.decode(encoded.input_ids) == (prompts[0] + answers[0] + prompts[1] + answers[1]).rstrip("\n")
    assert trained_texts(tokenizer, encoded) == [answer.rstrip("\n") for answer in answers]
