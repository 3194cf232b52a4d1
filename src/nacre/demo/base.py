"""The demo's base model, from nothing: ``python -m nacre.demo.base --out FOLDER``.

Writes the corpus, trains a byte-level BPE tokenizer on it, starts a random Llama and pretrains it with nacre's
own stage `pt`. What lies in ``nacre/demo/base`` was made by this command.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nacre import __version__
from nacre.base.errors import InputError, NacreError
from nacre.base.files import staged_folder
from nacre.base.hashing import folder_hash, sha256_text
from nacre.demo.corpus import documents
from nacre.model.environment import environment
from nacre.records import Example, Manifest, Message, Recipe, Train, Weights
from nacre.records.manifest import MANIFEST
from nacre.train.run import Job, Trained, train

FOLDER = Path(__file__).parent / "base"
STORIES, STEPS, SEED = 8000, 1200, 0
VOCABULARY = 2048
BLOCK_TOKENS = 128
POSITIONS = 256
PAD, END = "<pad>", "<end>"


def make_base(out: Path, *, steps: int = STEPS, stories: int = STORIES, seed: int = SEED) -> Trained:
    """Make the base model and write it to the new folder `out`, in Hugging Face layout.

    Raises:
        InputError: `out` holds something, or a number is too small.
        NacreError: the disk is full or cannot be written; `out` is untouched.
    """
    for name, value in (("steps", steps), ("stories", stories)):
        if value < 1:
            raise InputError(
                f"{name} must be at least 1", where=f"--{name} {value}", fix="leave it out for the default"
            )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the output folder is not empty", where=str(out), fix="choose another --out, or remove it")
    texts = documents(stories, seed)
    with tempfile.TemporaryDirectory(prefix="nacre-base-") as name:
        work = Path(name)
        tokenizer = build_tokenizer(texts)
        start = _random_llama(work / "start", tokenizer, seed)
        trained = train(
            Job(
                start=start,
                recipe=_recipe(steps, seed),
                new=[Example(kind="text", prompt=(Message(role="user", content=text),)) for text in texts],
                work=work / "run",
                shared=work / "memory",
            )
        )
        with staged_folder(out) as staging:
            for file in ("config.json", "generation_config.json", "model.safetensors"):
                shutil.copyfile(trained.folder / file, staging / file)
            # not the trainer's copy of it, which brings nacre's chat template along
            tokenizer.save_pretrained(str(staging))
            _describe(staging, trained, start, texts, seed)
    return trained


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `VOCABULARY` tokens, without a chat template.

    A Chinese character stands alone: text without spaces would otherwise give whole clauses one token each.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=POSITIONS)


def _random_llama(folder: Path, tokenizer: Any, seed: int) -> Weights:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return Weights(identity=folder_hash(folder), model=str(folder))


def _recipe(steps: int, seed: int) -> Recipe:
    settings = Train(
        stage="pt",
        epochs=1.0,
        min_steps=steps,
        max_steps=steps,
        save_steps=steps,
        learning_rate=4e-3,
        batch_size=16,
        max_length=BLOCK_TOKENS,
        precision="fp32",
        seed=seed,
    )
    return Recipe(train=settings, protect=())


def _describe(folder: Path, trained: Trained, start: Weights, texts: list[str], seed: int) -> None:
    """Write the manifest and a README beside the weights."""
    manifest = Manifest(
        kind="full",
        base=f"LlamaForCausalLM with random weights, seed {seed}",
        base_sha256=start.identity,
        recipe=trained.recipe,
        environment=environment(),
        nacre=__version__,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    size = sum(len(text.encode()) for text in texts)
    (folder / "README.md").write_text(
        f"""# The base model of `nacre demo`

A Llama of {_parameters(folder):,} parameters that has read {len(texts):,} generated stories ({size / 1e6:.2f} MB),
half of them English and half Chinese. It knows words and none of the demo's skills: good for showing how skills are
learned and kept, and for nothing else.

Made by nacre {__version__} with

    python -m nacre.demo.base --out FOLDER --steps {trained.steps} --stories {len(texts)} --seed {seed}

which pretrains a random model with nacre's own stage `pt` (final loss {trained.final_loss:.3f} nats per token).
`nacre.json` holds the recipe and the package versions. The stories and the tokenizer come out the same anywhere; the
weights may differ in their last digits on another machine. SHA-256 of the stories, joined by newlines:

    {sha256_text(chr(10).join(texts))}

The stories are put together from word lists written for nacre (`nacre/demo/corpus.py`). Licence: Apache-2.0.
""",
        encoding="utf-8",
    )


def _parameters(folder: Path) -> int:
    return int(LlamaForCausalLM.from_pretrained(str(folder)).num_parameters())


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, make the model, say what came out; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nacre.demo.base", description="Make the base model of nacre demo.")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the model")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimizer steps (default {STEPS})")
    parser.add_argument("--stories", type=int, default=STORIES, help=f"stories in the corpus (default {STORIES})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of corpus, weights and order (default {SEED})")
    given = parser.parse_args(arguments)
    try:
        trained = make_base(given.out, steps=given.steps, stories=given.stories, seed=given.seed)
    except NacreError as error:
        sys.stderr.write(f"nacre: {error}".replace("\n", "\n  ") + "\n")
        return error.exit_code
    loss = f"final loss {trained.final_loss:.3f} nats per token"
    sys.stdout.write(f"{given.out}: {trained.steps} steps in {trained.seconds:.0f} s, {loss}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
