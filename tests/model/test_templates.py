"""Templates by LlamaFactory's names: the text of a conversation, what of it is trained, and what ends an answer."""

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from nacre.base.errors import InputError
from nacre.model.chat import IGNORED, encode, own_text, prompt_ids, render, stop_ids, stop_texts
from nacre.model.generate import answer_all
from nacre.model.templates import TEMPLATES, adopt, chat_template, known
from nacre.records import Decoding, Example, Message

U1, A1 = Message(role="user", content="who"), Message(role="assistant", content="me, you")
U2, A2 = Message(role="user", content="why"), Message(role="assistant", content="so")
END = "</s>"
EXPECTED = {  # two turns with the system text "short": what is read, what is trained
    "qwen": [
        "<|im_start|>system\nshort<|im_end|>\n<|im_start|>user\nwho<|im_end|>\n<|im_start|>assistant\n",
        "me, you<|im_end|>\n",
        "<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n",
        "so<|im_end|>\n",
    ],
    "qwen3": [
        "<|im_start|>system\nshort<|im_end|>\n<|im_start|>user\nwho<|im_end|>\n<|im_start|>assistant\n",
        "<think>\n\n</think>\n\nme, you<|im_end|>\n",
        "<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n",
        "<think>\n\n</think>\n\nso<|im_end|>\n",
    ],
    "llama2": [
        "<s>[INST] <<SYS>>\nshort\n<</SYS>>\n\nwho [/INST]",
        "me, you</s>",
        "<s>[INST] why [/INST]",
        "so</s>",
    ],
    "mistral": ["<s>[INST] short\n\nwho[/INST]", " me, you</s>", "[INST] why[/INST]", " so</s>"],
    "default": [
        "System: short</s>\nHuman: who</s>\nAssistant:",
        "me, you</s>\n",
        "Human: why</s>\nAssistant:",
        "so</s>\n",
    ],
    # LlamaFactory too ends the last answer of a row by the end of sequence, which its own split does not show
    "glm4": [
        "[gMASK]<sop><|system|>\nshort<|user|>\nwho<|assistant|>",
        "\nme, you",
        "<|user|>\nwhy<|assistant|>",
        "\nso" + END,
    ],
    "empty": ["shortwho", "me, you", "why", "so" + END],
}


def runs(tokenizer, encoded) -> list[str]:
    """The text, cut where trained and untrained tokens meet."""
    found, trained = [], None
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        if trained is not (label != IGNORED):
            found.append([])
            trained = label != IGNORED
        found[-1].append(token)
    return [tokenizer.decode(run) for run in found]


def talk(**options) -> Example:
    return Example(prompt=(U1, A1, U2), answers=(A2,), **options)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_conversation_is_read_and_trained_as_the_template_says(bpe, name):
    tokenizer = bpe(None, ("<|im_start|>", "<|im_end|>"))
    adopt(tokenizer, name)
    encoded = encode(talk(system="short"), tokenizer, 512)
    end = tokenizer.eos_token
    assert runs(tokenizer, encoded) == [text.replace(END, end) for text in EXPECTED[name]]
    asked = prompt_ids((U1, A1, U2), tokenizer, system="short")
    assert encoded.input_ids[: len(asked)] == asked


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_found_again_after_saving_and_renders_the_same_elsewhere(bpe, name, tmp_path):
    tokenizer = bpe()
    adopt(tokenizer, name)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert known(again.chat_template) is not None
    chat = [{"role": "user", "content": "who"}, {"role": "assistant", "content": "me, you"}]
    theirs = again.apply_chat_template(chat, tokenize=False)
    row = Example(prompt=(U1,), answers=(A1,))
    ours = tokenizer.decode(encode(row, tokenizer, 512).input_ids)
    assert ours == theirs + (tokenizer.eos_token if TEMPLATES[name].bare else "")
    assert TEMPLATES[name].default_system in theirs


def test_a_system_text_of_ones_own_takes_the_place_of_the_default_one(bpe):
    tokenizer = bpe(chat_template("vicuna"))
    assert render((U1,), tokenizer).endswith("user's questions.USER: who ASSISTANT:")
    assert render((U1,), tokenizer, system="short") == "shortUSER: who ASSISTANT:"


def test_an_answer_with_a_thought_gets_no_empty_one(bpe):
    tokenizer = bpe(chat_template("qwen3"), ("<|im_start|>", "<|im_end|>"))
    thought = Message(role="assistant", content="<think>\nhm\n</think>\n\nso")
    text = runs(tokenizer, encode(Example(prompt=(U1,), answers=(thought,)), tokenizer, 512))[1]
    assert text == "<think>\nhm\n</think>\n\nso<|im_end|>\n"
    assert own_text("<think>\n\n</think>\n\nso", tokenizer) == "so"


def test_what_a_tool_says_has_a_form_of_its_own(bpe):
    turns = (U1, Message(role="function", content="{}"), Message(role="observation", content="noon"))
    shown = {name: render(turns, bpe(chat_template(name))) for name in ("chatml", "qwen", "llama3", "glm4", "vicuna")}
    assert "<|im_start|>tool\nnoon<|im_end|>" in shown["chatml"]
    assert "<tool_response>\nnoon\n</tool_response>" in shown["qwen"]
    assert "<|start_header_id|>ipython<|end_header_id|>\n\nnoon<|eot_id|>" in shown["llama3"]
    assert "<|observation|>\nnoon<|assistant|>" in shown["glm4"]
    assert shown["vicuna"].endswith("USER: noon ASSISTANT:")


def test_an_end_that_is_one_token_becomes_the_end_of_sequence(bpe):
    tokenizer = bpe(None, ("<|im_start|>", "<|im_end|>"))
    notes = adopt(tokenizer, "chatml")
    assert tokenizer.eos_token == "<|im_end|>"
    assert notes == ["template chatml: the end of sequence is <|im_end|> from now on"]
    assert stop_ids(tokenizer) == set(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"]))
    assert stop_texts(tokenizer) == ()


def test_an_end_that_the_vocabulary_lacks_is_looked_for_in_the_text(bpe):
    tokenizer = bpe()
    (note,) = adopt(tokenizer, "gemma")
    assert "no token <end_of_turn>" in note
    assert (tokenizer.eos_token, stop_ids(tokenizer)) == (END, {tokenizer.eos_token_id})
    assert stop_texts(tokenizer) == ("<end_of_turn>",)


def test_the_template_of_the_model_is_replaced_only_by_name_and_that_is_said(bpe):
    tokenizer = bpe(chat_template("vicuna"))
    assert adopt(tokenizer, "vicuna") == adopt(tokenizer, None) == []
    assert "takes the place" in adopt(tokenizer, "alpaca")[0]
    with pytest.raises(InputError) as refused:
        adopt(tokenizer, "qwen4")
    assert "did you mean 'qwen'?" in refused.value.fix


class Parrot(torch.nn.Module):
    """A model that says one text, whatever it is asked."""

    device = torch.device("cpu")

    def __init__(self, ids: list[int], size: int) -> None:
        super().__init__()
        self.ids, self.size, self.place = ids, size, 0

    def forward(self, **given):
        logits_BTV = torch.zeros(len(given["input_ids"]), 1, self.size)
        logits_BTV[:, :, self.ids[min(self.place, len(self.ids) - 1)]] = 1
        self.place += 1
        return type("Output", (), {"logits": logits_BTV, "past_key_values": None})()


@pytest.mark.parametrize(("name", "said"), [("gemma", "so<end_of_turn>\nand"), ("qwen3", "<think>\n\n</think>\n\nso")])
def test_an_answer_is_scored_without_what_the_template_puts_around_it(bpe, name, said):
    tokenizer = bpe(chat_template(name))
    end = "" if name == "gemma" else END
    parrot = Parrot(tokenizer(said + end)["input_ids"], len(tokenizer))
    row = Example(prompt=(U1,), answers=(A2,))
    (answer,) = answer_all(parrot, tokenizer, [row], Decoding(max_new_tokens=60, max_length=512))
    assert (answer.text, answer.finished) == ("so", True)
    assert parrot.place <= len(tokenizer(said)["input_ids"]) + 1


@pytest.mark.shared
def test_all_sixteen_are_llamafactorys_own_text():
    shared = Path(os.environ.get("NACRE_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "llamafactory"
    if not shared.is_dir():
        pytest.skip("needs the shared data folder (NACRE_SHARED)")
    golden = json.loads((shared / "golden" / "templates.json").read_text(encoding="utf-8"))
    assert set(golden) == set(TEMPLATES)
    turns = [Message(role=role, content=text) for role, text in zip(
        ("user", "assistant") * 2, ("hello", "hi there", "bye", "see you"), strict=True
    )]  # fmt: skip
    for name, pairs in golden.items():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(shared / "tiny_tokenizer")
        tokenizer.chat_template = chat_template(name)
        wanted = [text for pair in pairs for text in (pair["prompt"], pair["response"])]
        row = Example(prompt=tuple(turns[:3]), answers=(turns[3],), system="be brief")
        found = runs(tokenizer, encode(row, tokenizer, 512))
        if TEMPLATES[name].bare:
            assert found[-1].endswith(tokenizer.eos_token)
            found[-1] = found[-1].removesuffix(tokenizer.eos_token)
        assert found == wanted, name
        assert render(tuple(turns[:1]), tokenizer, system="be brief") == wanted[0]
        assert render(tuple(turns[:3]), tokenizer, system="be brief") == "".join(wanted[:3])
