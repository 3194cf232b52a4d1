"""What an adapter's folder is before anything of it is loaded: whether it may be, and whether it can be mixed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from torch import nn

from nacre.base.errors import InputError
from nacre.model.building import BUILDING
from nacre.model.ensemble import Plan
from nacre.model.load import answering_class, configuration
from nacre.model.quantised import answers_quantised
from nacre.model.router import BASE, Router
from nacre.records import Weights
from nacre.records.manifest import MANIFEST
from nacre.serve.engines.embedded.lora import Delta

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PICKLED = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_NAMING_OTHERS = {"XLORA"}  # PEFT fetches what its configuration lists, past every check here
_MATRIX = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])\.weight")
# Keys of a LoRA configuration that change nothing about how a finished adapter answers, or are read below.
_KNOWN = {
    *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying"),
    *("eva_config", "exclude_modules", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform"),
    *("loftq_config", "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core"),
    *("modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision"),
    *("runtime_config", "target_modules", "task_type", "use_rslora"),
}
# Beginnings that move the base as well, unless PEFT has turned the finished adapter into a plain one.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class Layer:
    """A layer of the base that an adapter may sit on: what goes in, what comes out.

    Attributes:
        every_token: whether it is a linear layer that sees every token of a forward pass, one by one.
    """

    inputs: int
    outputs: int
    every_token: bool


@dataclass(frozen=True)
class Checked:
    """An adapter folder that may be loaded, with its configuration and the names of its tensors.

    Attributes:
        every_token: whether all the layers it sits on are of that kind.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: tuple[str, ...]
    every_token: bool


def check(weights: Weights, max_rank: int) -> dict[str, Checked]:
    """Look at every adapter of a version before it is loaded; by the names that the router or the ensemble
    knows, or ``default``.

    Raises:
        InputError: pickled weights, torn files, another base, shapes that do not fit it, too high a rank, numbers
            that are none.
    """
    if weights.adapter is None:
        return {}
    if weights.routed:
        names = [name for name in Router.load(weights.adapter).adapters if name != BASE]
        folders = {name: weights.adapter / name for name in names}
    elif weights.ensemble:
        folders = {name: weights.adapter / name for name in Plan.load(weights.adapter).names}
    else:
        folders = {"default": weights.adapter}
    _check_base(weights)
    layers = _layers(weights)
    return {name: _checked(folder, layers, max_rank) for name, folder in folders.items()}


def mixable(weights: Weights, checked: Mapping[str, Checked]) -> bool:
    """Whether all adapters are plain LoRA on linear layers, which `lora.Bank` computes; others get a base of theirs."""
    return answers_quantised(weights.adapter) is None and all(_plain_lora(one) for one in checked.values())


def deltas(checked: Checked) -> dict[str, Delta]:
    """What a mixable adapter adds, by the name of the layer."""
    config = checked.config
    found: dict[str, Delta] = {}
    with safe_open(checked.folder / SAFETENSORS_WEIGHTS_NAME, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            match = _MATRIX.fullmatch(name)
            assert match is not None, name
            if match[2] == "B":
                continue
            layer, down_RI = match[1], file.get_tensor(name)
            up_OR = file.get_tensor(name.replace(".lora_A.", ".lora_B."))
            rank = down_RI.shape[0]
            alpha = _of_layer(config.get("alpha_pattern") or {}, layer, config["lora_alpha"])
            scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
            found[layer] = Delta(down_RI, up_OR, float(scale))
    return found


def stacked(checked: Mapping[str, Checked], plan: Plan) -> dict[str, Delta]:
    """What all members add together, as if it were one adapter: of the ranks' sum, so that nothing is lost."""
    found: dict[str, list[Delta]] = {}
    for name, weight in zip(plan.names, plan.weights, strict=True):
        for layer, delta in deltas(checked[name]).items():
            scaled = Delta(delta.down_RI.float(), delta.up_OR.float() * (delta.scale * weight), 1.0)
            found.setdefault(layer, []).append(scaled)
    return {
        layer: Delta(torch.cat([one.down_RI for one in parts]), torch.cat([one.up_OR for one in parts], dim=1), 1.0)
        for layer, parts in found.items()
    }


def _of_layer(pattern: Mapping[str, Any], layer: str, otherwise: Any) -> Any:
    """PEFT's rule: the first key that the layer's name ends with, at a dot."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", layer)), otherwise)


def _plain_lora(checked: Checked) -> bool:
    config = checked.config
    odd = {key for key, value in config.items() if key not in _KNOWN and value not in (None, False, [], {}, "", 0)}
    return (
        config.get("peft_type") == "LORA"
        and not odd
        and config.get("bias", "none") == "none"
        and not config.get("modules_to_save")
        and config.get("init_lora_weights", True) in _PLAIN_STARTS
        and checked.every_token
        and all(_MATRIX.fullmatch(name) for name in checked.tensors)
    )


def _check_base(weights: Weights) -> None:
    """The manifest names the artifact that the adapter was trained on, where that was one."""
    assert weights.adapter is not None
    manifest = weights.adapter / MANIFEST
    if not manifest.exists():
        return
    try:
        needs = json.loads(manifest.read_text(encoding="utf-8")).get("needs") or ""
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"the manifest cannot be read: {error}", where=str(manifest), fix="restore it") from None
    needed, there = Path(str(needs)).name, Path(weights.model).name
    if _SHA256.fullmatch(needed) and _SHA256.fullmatch(there) and needed != there:
        raise InputError(
            f"the adapter was trained on another base: {needed[:12]}…, not {there[:12]}…",
            where=str(weights.adapter),
            fix="serve it on the base that its manifest names",
        )


def _layers(weights: Weights) -> dict[str, Layer]:
    """The layers of the base, by name; nothing is loaded."""
    with BUILDING, torch.device("meta"):
        config = configuration(weights)
        model = answering_class(config).from_config(config, dtype=torch.float32, trust_remote_code=False)
    head = model.get_output_embeddings()  # sees only the tokens whose logits are wanted, as experts see only theirs
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            found[name] = Layer(module.in_features, module.out_features, module is not head and "expert" not in name)
        elif type(module).__name__ == "Conv1D":  # GPT-2's, which holds its weight the other way round
            found[name] = Layer(module.weight.shape[0], module.weight.shape[1], False)
    return found


def _checked(folder: Path, layers: Mapping[str, Layer], max_rank: int) -> Checked:
    where = str(folder)
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the adapter's configuration cannot be read: {error}", where=where, fix="restore the folder"
        ) from None
    if not isinstance(config, dict):
        raise InputError("the adapter's configuration is no object", where=where, fix="restore the folder")
    if str(config.get("peft_type")).upper() in _NAMING_OTHERS:
        what = f"an adapter of the kind {config['peft_type']} names others, which would be loaded from anywhere"
        raise InputError(what, where=where, fix="serve one adapter that stands alone")
    file = folder / SAFETENSORS_WEIGHTS_NAME
    if not file.exists():
        pickled = next((name for name in _PICKLED if (folder / name).exists()), None)
        what = f"pickled weights are not loaded: {pickled}" if pickled else f"{SAFETENSORS_WEIGHTS_NAME} is missing"
        raise InputError(what, where=where, fix="save the adapter as safetensors")
    _check_rank(config, where, max_rank)
    try:
        with safe_open(file, "pt") as tensors:
            names, every_token = _check_tensors(tensors, layers, (str(file), max_rank))
    except (OSError, SafetensorError, RuntimeError) as error:
        what = f"the adapter's weights are torn or no safetensors file: {error}"
        raise InputError(what.splitlines()[0], where=str(file), fix="restore the folder") from None
    return Checked(folder, config, names, every_token)


def _check_rank(config: Mapping[str, Any], where: str, max_rank: int) -> None:
    pattern = config.get("rank_pattern")
    ranks = [config.get("r", 0), *(pattern.values() if isinstance(pattern, dict) else ())]
    numbers = [rank for rank in ranks if isinstance(rank, (int, float)) and not isinstance(rank, bool)]
    if numbers and max(numbers) > max_rank:
        raise _too_high(max(numbers), where, max_rank)


def _too_high(rank: float, where: str, max_rank: int) -> InputError:
    return InputError(
        f"the adapter's rank is {rank:g}; this server loads {max_rank} at most",
        where=where,
        fix="raise serve.embedded.max_rank if you trust it",
    )


def _check_tensors(tensors: Any, layers: Mapping[str, Layer], limits: tuple[str, int]) -> tuple[tuple[str, ...], bool]:
    """The names of the tensors, and whether all layers see every token. Shapes come first: they are read at once."""
    where, _ = limits
    shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 - no mapping
    if not shapes:
        raise InputError("the adapter has no weights", where=where, fix="train it again")
    matrices = {name: match for name in shapes if (match := _MATRIX.fullmatch(name))}
    for name, match in matrices.items():
        partner = shapes.get(name.replace(f".lora_{match[2]}.", ".lora_B." if match[2] == "A" else ".lora_A."))
        _check_shape(name, match[1], (shapes[name], partner), layers, limits)
    for name in shapes:
        tensor = tensors.get_tensor(name)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"the adapter's weights are not all numbers: {name}", where=where, fix="train it again")
    return tuple(shapes), all(layers[match[1]].every_token for match in matrices.values())


def _check_shape(
    name: str,
    place: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...] | None],
    layers: Mapping[str, Layer],
    limits: tuple[str, int],
) -> None:
    """Of a LoRA matrix: the layer is there, it fits, its partner is there, and its rank is not too high."""
    (shape, partner), (where, max_rank) = shapes, limits
    fix = "serve it on its own base"
    if place not in layers:
        raise InputError(f"the base model has no layer {place}", where=where, fix=fix)
    if len(shape) != 2 or partner is None or len(partner) != 2:
        raise InputError(f"{name} is no half of a pair of matrices", where=where, fix="restore the folder")
    down = ".lora_A." in name
    rank, size = shape if down else shape[::-1]
    if rank > max_rank:
        raise _too_high(rank, where, max_rank)
    wanted = layers[place].inputs if down else layers[place].outputs
    if size != wanted or rank != (partner[1] if down else partner[0]):
        told = " × ".join(map(str, shape))
        raise InputError(f"{name} is {told}; the base model's layer takes {wanted}", where=where, fix=fix)
