"""Several LoRA adapters on one frozen base, each row answered by the one that a router picks from its prompt.

Whoever calls the model, for scores, for answers or in the server, calls it as any other: rows of different tasks may
stand in one batch, with a cache or without. A row's adapter is chosen once, from what stands before the first position
whose prediction is asked for (so no answer ever decides who is to give it), and kept with the cache.
Cost: one forward pass of the base over the prompt, beside the adapter's own; none while there is one adapter only.

Shapes: B rows, T tokens of a row.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from transformers import DynamicCache

from nacre.base.errors import NacreError
from nacre.base.hashing import sha256_file
from nacre.model.chat import IGNORED
from nacre.model.router import BASE, Router, read_prompts
from nacre.model.several import SeveralAdapters

__all__ = ["Routed", "load_routed"]


class Routed(SeveralAdapters):
    """A model that answers each row with the adapter of its task.

    Args:
        peft: the base with all adapters on it.
        router: picks one of them by the name it knows.
        within: what an adapter is called inside `peft`, where that is another name.
        kept: folders of adapters that are to be saved byte for byte as they are there.
    """

    def __init__(
        self,
        peft: PeftModel,
        router: Router,
        *,
        within: Mapping[str, str] | None = None,
        kept: Mapping[str, Path] | None = None,
    ) -> None:
        super().__init__(peft)
        self.router = router
        self._within, self._kept = dict(within or {}), dict(kept or {})
        self._active = ""

    def get_base_model(self) -> Any:
        """The base model, with no adapter active."""
        self._activate(BASE)
        return self.peft.get_base_model()

    def choose(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """The router's name of the adapter that answers each prompt."""
        if not self.router.needs_reading:
            return [self.router.adapters[0]] * len(prompts)
        return self.router.choose(read_prompts(self.get_base_model(), prompts))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        logits_to_keep: int | torch.Tensor = 0,
        labels: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """The base model's forward, each row through its own adapter.

        Raises:
            NacreError: a cache that another model has begun.
        """
        begun = past_key_values is not None and past_key_values.get_seq_length() > 0
        if begun:
            chosen = _known(past_key_values, len(input_ids))
        else:
            asked_BT = _asked(logits_to_keep, labels)
            chosen = self.choose(_prompts(input_ids, attention_mask, asked_BT))
            if past_key_values is None and options.get("use_cache", True):
                past_key_values = _Cache(config=self.config)
            if past_key_values is not None:
                past_key_values.nacre_adapters = chosen
        given = {"attention_mask": attention_mask, "past_key_values": past_key_values, **options}
        given |= (
            {"logits_to_keep": logits_to_keep} if isinstance(logits_to_keep, torch.Tensor) or logits_to_keep else {}
        )
        given |= {"labels": labels} if labels is not None else {}
        return self.peft(input_ids=input_ids, **given, **self._mixed(chosen))

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any) -> Any:
        """transformers' generation, each row through its own adapter."""
        chosen = self.choose(_prompts(input_ids, attention_mask, None))
        return self.peft.generate(input_ids=input_ids, attention_mask=attention_mask, **options, **self._mixed(chosen))

    def save_pretrained(self, folder: str | Path, state_dict: dict[str, Any] | None = None) -> None:
        """PEFT's layout for several adapters, a subfolder each, and the router's two files.

        An adapter that came from a folder is copied from there; `state_dict` is PEFT's, for the others.
        """
        for name in self.router.adapters:
            target = Path(folder) / name
            if name in self._kept:
                target.mkdir(parents=True)
                for file in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
                    shutil.copyfile(self._kept[name] / file, target / file)
            elif name != BASE:
                own = self._within.get(name, name)
                place = target if own == "default" else Path(folder)  # PEFT itself makes a subfolder for other names
                self.peft.save_pretrained(str(place), selected_adapters=[own], state_dict=state_dict)
        files = {name: Path(folder) / name / SAFETENSORS_WEIGHTS_NAME for name in self.router.adapters if name != BASE}
        self.router.save(Path(folder), {name: sha256_file(file) for name, file in files.items()})

    def _mixed(self, chosen: Sequence[str]) -> dict[str, Any]:
        """What PEFT must be told for rows of several adapters; one for all is switched on instead, which costs less."""
        names = [self._within.get(name, name) for name in chosen]
        if len(set(names)) == 1:
            self._activate(names[0])
            return {}
        return {"adapter_names": names}

    def _activate(self, name: str) -> None:
        if name != self._active:
            self.peft.base_model.set_adapter([] if name == BASE else [name], inference_mode=True)
            self._active = name


class _Cache(DynamicCache):
    """A cache that keeps each row's adapter with the row."""

    nacre_adapters: list[str]

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take these rows in this order."""
        super().reorder_cache(beam_idx)
        self.nacre_adapters = [self.nacre_adapters[row] for row in beam_idx.tolist()]


def load_routed(model: Any, folder: Path) -> Routed:
    """The base `model` with all adapters of `folder` on it, behind their router.

    Raises:
        NacreError: the router's files are missing or torn.
    """
    router = Router.load(folder)
    names = [name for name in router.adapters if name != BASE]
    return Routed(with_adapters(model, {name: folder / name for name in names}), router)


def with_adapters(model: Any, folders: Mapping[str, Path]) -> PeftModel:
    """The adapters of these folders on a model, which may have some already, by the names given."""
    for name, folder in folders.items():
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name, is_trainable=False)
        else:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    return model


def _known(cache: Any, rows: int) -> list[str]:
    chosen: list[str] | None = getattr(cache, "nacre_adapters", None)
    if chosen is None or len(chosen) != rows:
        raise NacreError(
            "the cache does not say which adapter each of its rows is answered with",
            where=f"{rows} rows",
            fix="begin with an empty cache, or with none",
        )
    return chosen


def _asked(logits_to_keep: int | torch.Tensor, labels_BT: torch.Tensor | None) -> torch.Tensor | None:
    """The positions [B, T] whose prediction is asked for; None: the last one of each row, or it is not said."""
    if labels_BT is not None:
        asked_BT = torch.zeros_like(labels_BT, dtype=torch.bool)
        asked_BT[:, :-1] = labels_BT[:, 1:] != IGNORED
        return asked_BT
    if isinstance(logits_to_keep, torch.Tensor) and logits_to_keep.ndim == 2:
        return logits_to_keep.bool()
    return None


def _prompts(
    input_ids_BT: torch.Tensor, mask_BT: torch.Tensor | None, asked_BT: torch.Tensor | None
) -> list[list[int]]:
    """What the router may read of each row: all of it, or up to the first position that is asked for its prediction.

    A row whose very first token is asked is plain text: it has no prompt, and is read whole.
    """
    prompts = []
    for row, ids_T in enumerate(input_ids_BT):
        there_T = mask_BT[row].bool() if mask_BT is not None else torch.ones_like(ids_T, dtype=torch.bool)
        if asked_BT is not None:
            asked = asked_BT[row].nonzero()[:, 0]
            end = int(asked[0]) + 1 if len(asked) else len(ids_T)
            before_T = torch.arange(len(ids_T), device=ids_T.device) < end
            if int((there_T & before_T).sum()) > 1:
                there_T = there_T & before_T
        prompts.append(ids_T[there_T].tolist())
    return prompts
