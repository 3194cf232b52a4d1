"""Generic text for keeping general ability: the user's own, or what the previous version says unasked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import canonical_json
from nacre.base.progress import progress
from nacre.data.convert import read_examples
from nacre.model.chat import encode_text
from nacre.train.protect.base import Batch

TEXTS, TOKENS, AT_ONCE = 128, 128, 64


@torch.no_grad()
def sample_texts(model: Any, tokenizer: Any, *, seed: int, texts: int = TEXTS, tokens: int = TOKENS) -> list[str]:
    """Texts drawn from the model at temperature 1, starting from nothing.

    The mean of KL(old || new) over such text is an unbiased estimate of the divergence between the two models,
    so no corpus has to be brought along (self-synthesised rehearsal, Huang et al. 2024, arXiv 2403.01244).
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    device = next(causal.parameters()).device
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    positions = getattr(causal.config.get_text_config(), "max_position_embeddings", None) or tokens + 1
    training = model.training
    model.eval()
    found: list[str] = []
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        progress("sampling text", texts) as advance,
    ):
        torch.manual_seed(seed)
        while len(found) < texts:
            rows = min(AT_ONCE, texts - len(found))
            ids_BT = torch.full((rows, 1), 0 if start is None else start, device=device)
            output_BT = causal.generate(
                ids_BT,
                attention_mask=torch.ones_like(ids_BT),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=min(tokens, positions - 1),
                pad_token_id=tokenizer.pad_token_id,
            )
            found += tokenizer.batch_decode(output_BT[:, 1:], skip_special_tokens=True)
            advance(rows)
    model.train(training)
    return found


class GenericBlocks:
    """Generic text in equal blocks of tokens, some of them for each optimizer step.

    Args:
        texts: the text.
        tokenizer: the model's.
        length: tokens of a block.
        rows: blocks of one optimizer step.
        seed: of the drawing.
        where: who asks, for the message.

    Raises:
        InputError: there is less text than one block.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Any, *, length: int, rows: int, seed: int, where: str) -> None:
        encoded = encode_text(list(texts), tokenizer, length)
        self.blocks = [row.input_ids for row in encoded if len(row.input_ids) == length]
        self.rows, self.seed = rows, seed
        if not self.blocks:
            raise InputError(
                f"the generic text is shorter than one block of {length} tokens",
                where=where,
                fix="name a file with more text in data.general, or choose a smaller length",
            )

    def draw(self, batch: Batch, device: torch.device) -> tuple[torch.Tensor, float] | None:
        """This micro-batch's blocks [B, T] of the step's, and the factor that its mean must have among all of them.

        Drawn by the number of the step, so that a run that is resumed sees the blocks an unbroken one would see.
        """
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + batch["step"])
        drawn = torch.randint(len(self.blocks), (self.rows,), generator=chance).tolist()
        chosen = drawn[batch["micro_batch"] :: batch["micro_batches"]]
        if not chosen:
            return None
        ids_BT = torch.tensor([self.blocks[place] for place in chosen], device=device)
        return ids_BT, len(chosen) * batch["micro_batches"] / len(drawn)


def generic_texts(
    own: Path | None, cache: Path, model: Any, tokenizer: Any, *, seed: int, notes: list[str]
) -> list[str]:
    """The texts of `own` if the user has such a file, else texts sampled from `model` once and kept in `cache`.

    Of rows with answers in `own`, question and answer are the text. What cannot be used of it goes into `notes`.

    Raises:
        InputError: `own` cannot be read.
    """
    if own is None and not cache.exists():
        texts = [text for text in sample_texts(model, tokenizer, seed=seed) if text.strip()]
        if not texts:
            return []
        atomic_write(cache, "".join(f"{canonical_json({'text': text})}\n" for text in texts))
    found = read_examples(own or cache)
    if own and found.dropped:
        notes.append(f"{len(found.dropped)} rows of {own} cannot be used as generic text")
    return ["\n".join(turn.content for turn in (*row.prompt, *row.answers[:1])) for row in found.examples]
