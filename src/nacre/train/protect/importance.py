"""How much each trained weight matters to what was learned, and the files that hand it to the next increment.

A file lies in `importance/` of the memory folder and is named by the SHA-256 of the weights it belongs to, so that
the increment that starts from those weights finds it, whatever else has happened in between. It holds numbers about
weights, no rows: where old data may not be kept, this is what is kept instead.
Shapes: T tokens of a row, P supervised positions, V vocabulary. Weights keep their own shapes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch.nn import functional

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import content_hash, sha256_file
from nacre.base.progress import progress
from nacre.model.chat import IGNORED, Encoded, encode_text
from nacre.records import Example, Weights
from nacre.train.rows import encode_rows

Tensors = dict[str, torch.Tensor]
FOLDER = "importance"


def trained_weights(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that train, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def copies(model: Any) -> Tensors:
    """A copy of every parameter that trains, on its own device."""
    return {name: weight.detach().clone() for name, weight in trained_weights(model).items()}


def measurable(rows: Sequence[Example], tokenizer: Any, max_length: int) -> list[Encoded]:
    """The rows as tokens, without those that have no token of an answer.

    Raises:
        InputError: no row is left.
    """
    encoded = encode_rows(rows, tokenizer, max_length, [])
    if not encoded:
        raise InputError(
            f"no row has an answer within {max_length} tokens to measure the importance of weights on",
            where="protect",
            fix="raise max_length, or leave the protection out",
        )
    return encoded


def measurable_texts(texts: Sequence[str], tokenizer: Any, max_length: int) -> list[Encoded]:
    """Blocks of plain text as tokens."""
    return [block for block in encode_text(list(texts), tokenizer, max_length) if len(block.input_ids) > 1]


def fisher(
    model: Any,
    rows: Sequence[Encoded],
    *,
    labels: Literal["empirical", "sampled"] = "empirical",
    seed: int = 0,
) -> Tensors:
    """Diagonal Fisher information of the trained weights, by parameter name, in float32.

    The mean over rows of the squared gradient of the row's summed log-likelihood: one row at a time, because
    squaring comes before averaging. `empirical` takes the likelihood of the row's own tokens; `sampled` that of
    tokens drawn from the model's distribution at the same positions, one draw a row, which estimates the true
    Fisher information and does not vanish where the model has learned its rows by heart (Kunstner, Balles, Hennig
    2019, arXiv 1905.12558).
    """
    trained = trained_weights(model)
    total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in trained.items()}
    draw = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    with progress("measuring importance", len(rows)) as advance:
        for row in rows:
            likelihood = _log_likelihood(model, row, draw if labels == "sampled" else None)
            grads = torch.autograd.grad(likelihood, list(trained.values()), allow_unused=True)
            for name, grad in zip(trained, grads, strict=True):
                if grad is not None:
                    total[name].addcmul_(grad.float(), grad.float(), value=1 / len(rows))
            advance(1)
    model.train(was_training)
    return total


def _log_likelihood(model: Any, row: Encoded, draw: torch.Generator | None) -> torch.Tensor:
    """Of the row's labelled tokens, or, with `draw`, of tokens drawn at their positions; summed, in nats."""
    targets_1T = torch.tensor([[*row.labels[1:], IGNORED]], device=model.device)
    wanted_1T = targets_1T != IGNORED
    ids_1T = torch.tensor([row.input_ids], device=model.device)
    logits_PV = model(input_ids=ids_1T, use_cache=False, logits_to_keep=wanted_1T).logits.reshape(
        int(wanted_1T.sum()), -1
    )
    targets_P = targets_1T[wanted_1T]
    if draw is not None:  # drawn on the CPU, so that every machine draws the same
        chances_PV = logits_PV.detach().float().softmax(-1).cpu()
        targets_P = torch.multinomial(chances_PV, 1, generator=draw)[:, 0].to(model.device)
    return -functional.cross_entropy(logits_PV.float(), targets_P, reduction="sum")


def weights_key(weights: Weights) -> str:
    """Names what was trained by the bytes of its safetensors files: the adapter's, or the model's."""
    folder = weights.adapter if weights.adapter is not None else Path(weights.model)
    return files_key(folder)


def files_key(folder: Path) -> str:
    """The same for a folder that a run has just written."""
    return content_hash({path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))})


def write_kept(
    memory: Path, protection: str, result: Path, parts: Mapping[str, Tensors], told: Mapping[str, str]
) -> None:
    """Keep what `protection` has measured for the increment that starts from the weights in `result`."""
    flat = {
        f"{part}/{name}": tensor.contiguous().cpu() for part, held in parts.items() for name, tensor in held.items()
    }
    path = memory / FOLDER / f"{protection}-{files_key(result)}.safetensors"
    atomic_write(path, save(flat, metadata=dict(told)))


def read_kept(
    memory: Path, protection: str, start: Weights, trained: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Tensors], dict[str, str]] | None:
    """What `write_kept` kept for these weights: its parts, on the weights' devices, and what was told of it.

    None, where nothing was kept or other parameters train now.
    """
    if not any((memory / FOLDER).glob(f"{protection}-*.safetensors")):
        return None  # reading the weights to find their key takes a while
    path = memory / FOLDER / f"{protection}-{weights_key(start)}.safetensors"
    if not path.exists():
        return None
    parts: dict[str, Tensors] = {}
    with safe_open(path, framework="pt") as file:
        told = dict(file.metadata() or {})
        for key in file.keys():  # noqa: SIM118  this is no mapping
            part, _, name = key.partition("/")
            if name not in trained or tuple(file.get_slice(key).get_shape()) != tuple(trained[name].shape):
                return None
            parts.setdefault(part, {})[name] = file.get_tensor(key).to(trained[name].device)
    if not parts or any(held.keys() != trained.keys() for held in parts.values()):
        return None
    return parts, told


def add_pulls(
    moving: Mapping[str, torch.nn.Parameter], pulls: Mapping[str, torch.Tensor], strength: float, max_norm: float
) -> None:
    """Add strength * pull to every gradient, all of them scaled down alike where they are longer than `max_norm`."""
    if not pulls:
        return
    norm = strength * torch.stack([pull.norm() for pull in pulls.values()]).norm()
    scale = strength * torch.clamp(max_norm / (norm + 1e-12), max=1.0)
    for name, pull in pulls.items():
        gradient = moving[name].grad
        assert gradient is not None
        gradient.add_((pull * scale).to(gradient.dtype))
