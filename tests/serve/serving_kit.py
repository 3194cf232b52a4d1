"""What the serving tests share: two tiny models that learned different answers by heart, and a ledger place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import sqlalchemy as sa
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nacre.model.chat import IGNORED, encode, ensure_template
from nacre.records import Example, Interaction, Message, RowsFile, Snapshot, Version, Weights
from nacre.records.recipe import Recipe
from nacre.records.version import Environment
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore
from nacre.serve.run import LedgerSource

Connect = Callable[..., openai.OpenAI]

QUESTION = "nacre?"
ANSWERS = ("珍珠母一层一层地生长，旧层不失。", "It grows layer by layer; old ones stay.")
LONG = "count"  # answered by every model without an end, until max_tokens


@dataclass(frozen=True)
class Shelf:
    """Folders of the two models; `ANSWERS[i]` is what model i says to QUESTION."""

    folders: tuple[Path, Path]

    def weights(self, place: int) -> Weights:
        return Weights(identity=f"{place}" * 64, model=str(self.folders[place]))


def make_model(folder: Path, answer: str, seed: int) -> Path:
    """Byte-level BPE that knows no Chinese character as one token, and a model that learned one answer by heart."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    raw.train_from_iterator(["layer by layer, one layer more, Human: Assistant: System:"] * 8, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    ensure_template(tokenizer)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    _learn(model, tokenizer, {QUESTION: answer, LONG: "123456789 " * 12})
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _learn(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, answers: dict[str, str]) -> None:
    rows = [
        encode(
            Example(
                prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),)
            ),
            tokenizer,
            512,
        )
        for question, answer in answers.items()
    ]
    for row, question in zip(rows, answers, strict=True):
        if question == LONG:
            row.labels[-1] = IGNORED  # its end is not learned
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = sum(
            model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss for row in rows
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05, "the fixture's model did not learn its answer"


@dataclass
class Place:
    """A ledger with both models as versions 1 and 2, as a server or another process would open it."""

    ledger: Ledger
    url: str
    store: ArtifactStore
    secret: Path

    def open_again(self) -> Ledger:
        return Ledger(self.url, self.store)

    def resolve(self, version: Version) -> Weights:
        return Weights(identity=version.artifact, model=str(self.store.path(version.artifact)))

    @property
    def source(self) -> LedgerSource:
        return LedgerSource(self.ledger, self.resolve, self.secret)


@contextmanager
def make_place(shelf: Shelf, root: Path) -> Iterator[Place]:
    """A ledger below `root` with both models as versions 1 and 2, neither of them champion."""
    store = ArtifactStore(root / "artifacts")
    url = f"sqlite:///{root / 'ledger.db'}"
    with Ledger(url, store) as ledger:
        for folder in shelf.folders:
            ledger.add_version(
                base="base",
                base_sha256="0" * 64,
                kind="full",
                artifact=store.publish_folder(folder),
                recipe=Recipe(),
                environment=Environment(python="3", packages={}, machine="here", device="cpu"),
                snapshot=Snapshot(task="t", train=RowsFile(sha256="a" * 64, rows=1), dev=None, sources={}),
                tasks=("t",),
            )
        yield Place(ledger, url, store, root / "response.key")


def kept(place: Place) -> list[Interaction]:
    """Every interaction the ledger has, in the order they were written."""
    engine = sa.create_engine(place.url)
    with engine.connect() as connection:
        found = connection.execute(sa.text("select id from interaction order by rowid")).scalars().all()
    engine.dispose()
    return [one for identity in found if (one := place.ledger.interaction(identity)) is not None]


def ask(client: openai.OpenAI, question: str = QUESTION, **options: object) -> openai.types.chat.ChatCompletion:
    options = {"model": "bot", "temperature": 0} | options
    return client.chat.completions.create(messages=[{"role": "user", "content": question}], **options)


def text_of(answer: openai.types.chat.ChatCompletion) -> str:
    return answer.choices[0].message.content or ""
