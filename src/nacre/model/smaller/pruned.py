"""Weights set to zero where that matters least: by size, by size and use (Wanda), or two of every four.

Only linear layers are pruned, and not the head: embeddings and norms stay too. The result is an ordinary, dense
model with zeros in it: dense products take as long as before, and the file is as large. Zeros pay where kernels (2:4
on recent GPUs) or an archive make use of them.

Sources: magnitude in each matrix (Han et al. 2015, arXiv 1506.02626); Wanda (Sun et al. 2023, arXiv 2306.11695,
eq. 1): |W_oi| · ‖X_i‖₂, compared within each output's row. The paper takes the norms of a block's inputs after the
blocks below it were pruned; here they are taken in one reading by the whole model, before a healing run.

Shapes: I inputs, O outputs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nacre.base.errors import InputError
from nacre.model.losses import evaluating
from nacre.model.smaller.base import Rows, Way, plain_linear
from nacre.records import Compressing

GROUP, OF_GROUP = 4, 2


class Pruned(Way):
    """Set the least important weights of every matrix to zero."""

    name = "pruned"
    methods = ("wanda", "magnitude", "2:4")
    shares: ClassVar[Mapping[str, float]] = {"wanda": 0.8, "magnitude": 0.8, "2:4": OF_GROUP / GROUP}
    only: ClassVar[Mapping[str, float]] = {"2:4": OF_GROUP / GROUP}

    def write(self, model: Any, folder: Path, asked: Compressing, rows: Rows) -> list[str]:
        """See `Way.write`. Without rows, `wanda` and `2:4` go by size alone, and say so."""
        notes = prune(model, asked, rows)
        model.save_pretrained(str(folder))
        return notes


@torch.no_grad()
def prune(model: Any, asked: Compressing, rows: Rows) -> list[str]:
    """Prune in place; returns what was done, in sentences.

    Raises:
        InputError: there is no linear layer, or one whose inputs are no multiple of four.
    """
    layers = pruned_layers(model)
    if not layers:
        fix = "--to int8 or int4"
        raise InputError("the model has no linear layers to prune", where=type(model).__name__, fix=fix)
    by_use = asked.method != "magnitude"
    norms = input_norms(model, rows) if by_use and rows else {}
    for name, layer in layers:
        kept_OI = _kept(name, layer.weight, norms.get(name), asked)
        layer.weight.mul_(kept_OI)
    used = f"by their size times that of what they multiply, in {len(rows)} rows" if norms else "by their size"
    notes = [f"{asked.method}: {zeros_of(model):.1%} of the linear layers' weights are zero, chosen {used}"]
    if by_use and not norms:
        notes.append("no rows are kept that could show which weights are used")
    return notes


def pruned_layers(model: Any) -> list[tuple[str, nn.Linear]]:
    """The linear layers but the head, by name."""
    head = model.get_output_embeddings()
    return [(name, module) for name, module in plain_linear(model) if module is not head]


def input_norms(model: Any, rows: Rows) -> dict[str, torch.Tensor]:
    """Root of the summed squares [I] of what comes into each of these layers, over all tokens of the rows."""
    squares: dict[str, torch.Tensor] = {}
    handles = []
    for name, layer in pruned_layers(model):

        def add(_: Any, given: tuple[torch.Tensor, ...], name: str = name) -> None:
            found_I = given[0].detach().float().square().flatten(0, -2).sum(0)
            squares[name] = squares[name] + found_I if name in squares else found_I

        handles.append(layer.register_forward_pre_hook(add))
    try:
        with evaluating(model):
            for row in rows:
                model(input_ids=torch.tensor([list(row)], device=model.device), use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total_I.sqrt() for name, total_I in squares.items()}


def zeros_of(model: Any) -> float:
    """Share of these layers' weights that are zero."""
    layers = [layer.weight for _, layer in pruned_layers(model)]
    total = sum(weight.numel() for weight in layers)
    return sum(int((weight == 0).sum()) for weight in layers) / total if total else 0.0


def _kept(name: str, weight_OI: torch.Tensor, norm_I: torch.Tensor | None, asked: Compressing) -> torch.Tensor:
    """1 where a weight stays, 0 where it goes [O, I]."""
    score_OI = weight_OI.abs().float()
    if norm_I is not None:
        score_OI = score_OI * norm_I
    if asked.method == "2:4":
        if score_OI.shape[1] % GROUP:
            what = f"{name} has {score_OI.shape[1]} inputs, which is no multiple of {GROUP}"
            raise InputError(what, where="--method 2:4", fix="--method wanda")
        return _largest(score_OI.reshape(-1, GROUP), OF_GROUP).reshape(score_OI.shape).to(weight_OI.dtype)
    if asked.method == "magnitude":
        return _largest(score_OI.reshape(1, -1), round(asked.keep * score_OI.numel())).reshape(score_OI.shape)
    return _largest(score_OI, round(asked.keep * score_OI.shape[1]))


def _largest(score_RC: torch.Tensor, count: int) -> torch.Tensor:
    """1 at the `count` largest of each row, 0 elsewhere."""
    kept_RC = torch.zeros_like(score_RC)
    return kept_RC.scatter_(1, score_RC.topk(max(1, count), dim=1).indices, 1.0)
