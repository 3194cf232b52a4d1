import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from nacre.base.errors import InputError
from nacre.model.chat import encode, prompt_ids, shorten
from nacre.model.generate import answer_all
from nacre.model.losses import answer_losses, text_losses
from nacre.records import Decoding, Example, Message

DECODING = Decoding(max_new_tokens=12, max_length=64)


def one_by_one(model, tokenizer, examples):
    texts = []
    for example in examples:
        ids = torch.tensor([prompt_ids(example.prompt, tokenizer)])
        said = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        texts.append(tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("batch_rows", [1, 5, 32])
def test_batched_answers_equal_one_by_one_generation(model, tokenizer, examples, batch_rows):
    done = []
    answers = answer_all(model, tokenizer, examples, DECODING, batch_rows=batch_rows, advance=done.append)
    assert [answer.text for answer in answers] == one_by_one(model, tokenizer, examples)
    assert sum(done) == len(examples)
    assert {answer.finished for answer in answers} == {True, False}, "the fixture must show both endings"
    assert len({answer.text for answer in answers}) > 5, "the fixture must tell prompts apart"


def test_learned_positions_count_from_the_first_real_token(tokenizer, examples):
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=1.0
    )
    config.eos_token_id = config.bos_token_id = config.pad_token_id = end
    model = GPT2LMHeadModel(config).eval()
    answers = answer_all(model, tokenizer, examples, DECODING)
    assert [answer.text for answer in answers] == one_by_one(model, tokenizer, examples)
    assert len({answer.text for answer in answers}) > 5


def test_the_models_own_generation_settings_are_left_aside(model, tokenizer, examples):
    plain = answer_all(model, tokenizer, examples, DECODING)
    before = model.generation_config.repetition_penalty
    model.generation_config.repetition_penalty = 5.0
    try:
        assert one_by_one(model, tokenizer, examples) != [answer.text for answer in plain]
        assert answer_all(model, tokenizer, examples, DECODING) == plain
    finally:
        model.generation_config.repetition_penalty = before


def test_long_prompts_are_shortened_as_everywhere_and_counted(model, tokenizer, examples):
    tight = Decoding(max_new_tokens=4, max_length=14)
    answers = answer_all(model, tokenizer, examples, tight)
    lengths = [len(prompt_ids(example.prompt, tokenizer)) for example in examples]
    assert [answer.cut_tokens for answer in answers] == [max(0, length - 10) for length in lengths]
    longest = max(range(len(examples)), key=lambda row: lengths[row])
    ids = torch.tensor([shorten(prompt_ids(examples[longest].prompt, tokenizer), 10)])
    said = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=4)
    assert answers[longest].text == tokenizer.decode(said[0, 10:], skip_special_tokens=True)


def test_no_room_for_a_prompt_is_an_input_error(model, tokenizer, examples):
    with pytest.raises(InputError, match="no room"):
        answer_all(model, tokenizer, examples, Decoding(max_new_tokens=64, max_length=64))


def test_no_rows_give_no_answers(model, tokenizer):
    assert answer_all(model, tokenizer, [], DECODING) == []
    assert answer_losses(model, tokenizer, [], 64) == []


def by_hand(model, input_ids, labels):
    """Loss from the full [1, T, V] logits, one token after the other."""
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([input_ids])).logits[0].double()
    scored = [t for t in range(1, len(labels)) if labels[t] != -100]
    return sum(-torch.log_softmax(logits_TV[t - 1], -1)[labels[t]].item() for t in scored), len(scored)


def test_answer_losses_equal_a_hand_computation(model, tokenizer, examples):
    losses = answer_losses(model, tokenizer, examples, 64)
    for example, loss in zip(examples, losses, strict=True):
        row = encode(example, tokenizer, 64)
        nll, tokens = by_hand(model, row.input_ids, row.labels)
        assert loss.tokens == tokens == 2  # the word and the end of the answer
        assert loss.nll == pytest.approx(nll, rel=1e-4)


def test_only_the_last_answer_of_a_conversation_is_scored(model, tokenizer):
    turns = ("user", "red"), ("assistant", "one two three"), ("user", "blue")
    prompt = tuple(Message(role=role, content=text) for role, text in turns)
    example = Example(prompt=prompt, answers=(Message(role="assistant", content="cat dog"),))
    row = encode(example, tokenizer, 64)
    assert sum(label != -100 for label in row.labels) == 7
    answer_only = [-100] * (len(row.labels) - 3) + row.labels[-3:]
    (loss,) = answer_losses(model, tokenizer, [example], 64)
    assert (loss.nll, loss.tokens) == pytest.approx(by_hand(model, row.input_ids, answer_only), rel=1e-4)


def test_rows_that_do_not_fit_are_counted(model, tokenizer, examples):
    losses = answer_losses(model, tokenizer, examples, 12)
    assert any(loss.cut_tokens for loss in losses)
    assert all(loss.tokens == 2 for loss in losses), "the answer itself stays"


def test_text_losses_cover_long_texts_block_by_block(model, tokenizer):
    text = "red green blue one two three cat"
    ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
    first, second = (by_hand(model, block, block) for block in (ids[:5], ids[5:]))
    losses = text_losses(model, tokenizer, [text, "sun moon"], 5)
    assert losses[0].tokens == first[1] + second[1] == 6
    assert losses[0].nll == pytest.approx(first[0] + second[0], rel=1e-4)
    assert losses[1].tokens == 2


def test_no_logits_are_made_for_positions_that_are_not_scored(model, tokenizer, examples):
    shapes = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    try:
        losses = answer_losses(model, tokenizer, examples, 64)
    finally:
        hook.remove()
    assert sum(shape[0] for shape in shapes) == sum(loss.tokens for loss in losses)
    assert all(len(shape) == 2 for shape in shapes)


def test_adapters_and_training_mode_survive(model, tokenizer, examples):
    torch.manual_seed(0)
    config = LoraConfig(
        r=2, target_modules=["q_proj"], init_lora_weights=False, lora_dropout=0.5, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(type(model)(model.config), config).train()
    adapted.base_model.model.load_state_dict(model.state_dict(), strict=False)
    first = answer_all(adapted, tokenizer, examples, DECODING)
    assert first == answer_all(adapted, tokenizer, examples, DECODING), "dropout must be off"
    assert all(math.isfinite(loss.nll) for loss in answer_losses(adapted, tokenizer, examples, 64))
    assert adapted.training
