"""Several LoRA adapters on one frozen base that answer together.

`mean` and `weighted` read every token once for each member, side by side in one pass, and go on from the mixture of
what they expect next: p(token) = sum over members of w_m · p_m(token). What such a model gives as logits are the
logarithms of these, so that whoever takes a softmax, an argmax or a cross entropy of them needs to know nothing.
`vote`: each member answers alone, and the answer that most of them gave is the answer (`elected`). A vote has no
probability of a token; where one is asked for, it is that of the equal mixture.
`layers`: what the members add to the weights is added up, W x + sum of w_m · s_m · B_m A_m x: one pass for all, as one
adapter that was merged of them would take; the members stay apart on disk and can be had one by one.

Shapes: M members, B rows, T tokens, N asked positions, V vocabulary.
"""

import json
import math
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from transformers import DynamicCache

from nacre.base.errors import InputError, NacreError
from nacre.base.hashing import sha256_file
from nacre.model.routed import with_adapters
from nacre.model.several import SeveralAdapters
from nacre.records.combination import Together
from nacre.records.tune import MOVES_THE_BASE
from nacre.records.weights import ENSEMBLE

FORMAT = 1
MERGED = "merged"


@dataclass(frozen=True)
class Plan:
    """Who answers together, and how.

    Attributes:
        names: of the members, a folder each; the one whose word decides a tie first.
        weights: of their probabilities (they add up to 1), or of what they add to the weights; 1 of a vote.
    """

    by: Together
    names: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def passes(self) -> int:
        """Forward passes of the base that one token takes, for all members together."""
        return 1 if self.by == "layers" else len(self.names)

    def save(self, folder: Path, adapters: Sequence[Path]) -> None:
        """Write the members' adapters, byte for byte as they are in these folders, and the file that names them."""
        members = []
        for name, weight, adapter in zip(self.names, self.weights, adapters, strict=True):
            (folder / name).mkdir(parents=True)
            for file in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
                shutil.copyfile(adapter / file, folder / name / file)
            members.append({"name": name, "weight": weight, "sha256": sha256_file(adapter / SAFETENSORS_WEIGHTS_NAME)})
        told = {"format": FORMAT, "by": self.by, "members": members}
        (folder / ENSEMBLE).write_text(json.dumps(told, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """Read what `save` wrote.

        Raises:
            NacreError: the file is missing or torn, or of a later format.
        """
        try:
            told = json.loads((folder / ENSEMBLE).read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                what = "the adapters are held together in another format"
                raise NacreError(what, where=str(folder / ENSEMBLE), fix="update nacre")
            names = tuple(str(member["name"]) for member in told["members"])
            weights = tuple(float(member["weight"]) for member in told["members"])
            if told["by"] not in get_args(Together) or not names or any(Path(name).name != name for name in names):
                raise ValueError(f"by {told['by']}, members {', '.join(names) or 'none'}")
            return cls(told["by"], names, weights)
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"what holds the adapters together cannot be read: {error}"
            raise NacreError(what, where=str(folder / ENSEMBLE), fix="restore the folder") from error


class Ensemble(SeveralAdapters):
    """A model that goes on from what all its members expect: by vote, mean or weighted.

    Whoever calls it, for scores, for answers or in the server, calls it as any other. Rows may leave the batch.

    Args:
        peft: the base with all members on it.
        plan: whose `by` is not ``layers``.
    """

    def __init__(self, peft: PeftModel, plan: Plan) -> None:
        super().__init__(peft)
        self.plan = plan

    def get_base_model(self) -> Any:
        """The base model, whose layers have the members on them."""
        return self.peft.get_base_model()

    def alone(self) -> Iterator[PeftModel]:
        """The members one after the other, each as the only adapter on the base while it is in hand."""
        for name in self.plan.names:
            self.peft.base_model.set_adapter([name], inference_mode=True)
            yield self.peft

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        logits_to_keep: int | torch.Tensor = 0,
        position_ids: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """The base model's forward, with the logarithms of the members' mean probabilities as logits.

        Raises:
            NacreError: a cache that another model has begun.
        """
        rows, members = len(input_ids), len(self.plan.names)
        if past_key_values is not None and past_key_values.get_seq_length() > 0:
            _check_begun(past_key_values, rows)
        elif past_key_values is None and options.get("use_cache", True):
            past_key_values = _Cache(config=self.config)
        if past_key_values is not None:
            past_key_values.nacre_rows, past_key_values.nacre_members = rows, members
        given = {"past_key_values": past_key_values, **options}
        for name, tensor_BT in (("attention_mask", attention_mask), ("position_ids", position_ids)):
            if tensor_BT is not None:
                given[name] = tensor_BT.expand(rows, -1).repeat(members, 1)
        if isinstance(logits_to_keep, torch.Tensor) and logits_to_keep.ndim == 2:
            given["logits_to_keep"] = logits_to_keep.repeat(members, 1)
        elif isinstance(logits_to_keep, torch.Tensor) or logits_to_keep:
            given["logits_to_keep"] = logits_to_keep
        names = [name for name in self.plan.names for _ in range(rows)]
        output = self.peft(input_ids=input_ids.repeat(members, 1), adapter_names=names, **given)
        output.logits = mixture(output.logits.unflatten(0, (members, -1)), self.plan.weights)
        return output


class _Cache(DynamicCache):
    """Keys and values of every row by every member: the rows of the first one, then those of the next."""

    nacre_rows: int
    nacre_members: int

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take these rows in this order, of every member."""
        every = torch.cat([beam_idx + place * self.nacre_rows for place in range(self.nacre_members)])
        super().reorder_cache(every)
        self.nacre_rows = len(beam_idx)


def _check_begun(cache: Any, rows: int) -> None:
    if getattr(cache, "nacre_rows", None) != rows:
        raise NacreError(
            "the cache does not hold these rows as every member read them",
            where=f"{rows} rows",
            fix="begin with an empty cache, or with none",
        )


def mixture(logits_M: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Logarithms of the weighted mean of the members' probabilities, [..., V] of [M, ..., V], in float32."""
    shares_M = torch.tensor(weights, device=logits_M.device, dtype=torch.float32)
    shares_M = (shares_M / shares_M.sum()).log()
    logprobs_M = logits_M.float().log_softmax(-1)
    return (logprobs_M + shares_M.view(-1, *[1] * (logits_M.ndim - 1))).logsumexp(0)


def votes(model: Any) -> bool:
    """Whether a loaded model's members answer one by one, and most equal answers win."""
    return isinstance(model, Ensemble) and model.plan.by == "vote"


def elected(texts: Sequence[str]) -> int:
    """The place of the answer that wins, of the members' answers in the order that decides ties.

    Answers are equal where only Unicode form and white space around them differ. Of several answers with the most
    votes, the one that was given first in the order wins; so where no two members agree, the first one's does.
    """
    ballots = [unicodedata.normalize("NFC", text).strip() for text in texts]
    counts = Counter(ballots)
    most = max(counts.values())
    return next(place for place, ballot in enumerate(ballots) if counts[ballot] == most)


def load_ensemble(model: Any, folder: Path) -> Any:
    """The base `model` with all members of `folder` on it.

    Raises:
        NacreError: the file that holds them together is missing or torn.
    """
    plan = Plan.load(folder)
    peft = with_adapters(model, {name: folder / name for name in plan.names})
    if plan.by == "layers":
        set_shares(peft, dict(zip(plan.names, plan.weights, strict=True)))
        return peft
    return Ensemble(peft, plan)


def set_shares(peft: PeftModel, shares: Mapping[str, float]) -> None:
    """Make these adapters active together, each with this multiple of what it adds to the weights by itself."""
    for module in peft.modules():
        if isinstance(module, LoraLayer):
            for name, share in shares.items():
                module.set_scale(name, share)
    peft.base_model.set_adapter(list(shares), inference_mode=True)


def write_merged(model: Any, adapters: Sequence[Path], weights: Sequence[float], folder: Path) -> int:
    """Write one adapter that adds what these add together, each times its weight; returns its rank.

    The rank is the sum of theirs, so nothing is lost: the rows of A stand on top of each other, the columns of B side
    by side.

    Args:
        model: the base; it has the adapters on it afterwards.
        adapters: folders, as `check_member` lets them through.
        weights: one for each.
        folder: exists.

    Raises:
        InputError: the first one's configuration leaves modules out that another one is on.
    """
    names = [f"member_{place}" for place, _ in enumerate(adapters, 1)]
    peft = with_adapters(model, dict(zip(names, adapters, strict=True)))
    configs = [peft.peft_config[name] for name in names]
    rank = sum(max([config.r, *(config.rank_pattern or {}).values()]) for config in configs)
    # PEFT gives the new adapter alpha = rank, and the first one's rule: by that rule its scaling is not 1
    scaling = math.sqrt(rank) if configs[0].use_rslora else 1.0
    shares = [weight / scaling for weight in weights]
    peft.base_model.add_weighted_adapter(names, shares, MERGED, combination_type="cat")
    for where, layer in peft.named_modules():
        if isinstance(layer, LoraLayer) and MERGED not in layer.r and any(name in layer.r for name in names):
            what = f"one adapter is on {where}, which the configuration of the first one leaves out"
            raise InputError(what, where=str(adapters[0]), fix="combine them by layers")
    peft.save_pretrained(str(folder), selected_adapters=[MERGED])
    for path in sorted((folder / MERGED).iterdir()):  # PEFT makes a subfolder for every name but its own
        path.rename(folder / path.name)
    (folder / MERGED).rmdir()
    return rank


def check_member(adapter: Path, where: str) -> None:
    """Refuse an adapter that cannot stand beside others on one base.

    Raises:
        InputError: it is more than two matrices a module, or moves the base as well.
    """
    try:
        config = json.loads((adapter / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    more = {
        f"an adapter of the kind {config.get('peft_type', 'unknown')}": config.get("peft_type") != "LORA",
        "DoRA": config.get("use_dora"),
        "trained biases": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "whole modules beside its matrices": config.get("modules_to_save"),
        f"a beginning that moves the base ({config.get('init_lora_weights')})": config.get("init_lora_weights")
        in MOVES_THE_BASE,
    }
    for what in (what for what, there in more.items() if there):
        fix = "combine versions with plain LoRA adapters (tune: lora)"
        raise InputError(f"it has {what}, which cannot stand beside others on one base", where=where, fix=fix)
