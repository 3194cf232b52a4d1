import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = ["Human: hello Assistant: hi there, see you. System: user assistant 你好，再见。今天天气很好。"] * 4


@pytest.fixture(scope="session")
def bpe():
    """Makes byte-level BPE tokenizers with a few more special tokens and, if given, a chat template."""

    def make(template=None, extra=(), eos="</s>", bos="<s>"):
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        raw.train_from_iterator(
            TEXT,
            trainers.BpeTrainer(
                vocab_size=400,
                special_tokens=["<pad>", "<s>", "</s>"],
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        )
        raw.add_special_tokens([AddedToken(token, special=True) for token in extra])
        made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos, pad_token="<pad>")
        made.chat_template = template
        return made

    return make
