"""Mark what trains, go on from what a version already carries, and save it so that PEFT alone can load it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, get_peft_model

from nacre.base.errors import InputError
from nacre.model.load import REWARD_TASK, decoder_layers, judges
from nacre.model.pictures import vision_names
from nacre.model.prompts import PromptLearned
from nacre.model.tuners.configs import PEFT_TYPES, adapter_config
from nacre.records import Weights
from nacre.records.tune import MOVES_THE_BASE, AdaLora, Freeze, Full, Lora, Prefix, Prompt, PTuning, Tune

MERGEABLE = ("LORA", "ADALORA", "OFT", "IA3")


@dataclass(frozen=True)
class Tuned:
    """A model whose parameters are marked, and a sentence that says what trains.

    Attributes:
        kind: "full" or "adapter": what its artifact will hold.
        moved_base: the adapter's beginning was taken out of the base weights, so without the adapter this model
            is not the base model.
    """

    model: Any
    kind: str
    summary: str
    moved_base: bool = False


def apply(model: Any, tune: Tune) -> Tuned:
    """Mark what trains. A model that already carries an adapter goes on with it under a tuner of its kind.

    Raises:
        InputError: more layers asked for than there are, a target that names no module, or an adapter that this
            tuner cannot go on from.
    """
    if not isinstance(tune, Full | Freeze):
        return _adapter(model, tune)
    if isinstance(model, PeftModel):
        model = _merged(model, tune)
    what = "every layer"
    if isinstance(tune, Full):
        model.requires_grad_(True)
        if vision_names(model):
            what = _without_vision(model, tune)
    else:
        what = _freeze(model, tune)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # a small step added to a large bf16 number would be lost
    return Tuned(model, "full", _count(model, what))


def _without_vision(model: Any, tune: Full) -> str:
    """Freeze what of the part that sees is not to train; what trains, in words."""
    if tune.vision == "all":
        return "every layer, those that see included"
    inner, projects = model.base_model, ("projector", "connector", "merger", "resampler")
    for weight in inner.parameters(recurse=False):  # of some families what parts two lines of patches
        weight.requires_grad_(tune.vision == "projector")
    for name in vision_names(model):
        trains = tune.vision == "projector" and any(word in name for word in projects)
        getattr(inner, name).requires_grad_(trains)
    return "every layer of the language model" + (" and the projector" if tune.vision == "projector" else "")


def goes_beside(tuned: Tuned, previous: Weights) -> bool:
    """Whether the base inside a model that trains an adapter can answer as `previous`, which sits on the same base."""
    if tuned.kind != "adapter" or tuned.moved_base:
        return False
    if previous.adapter is None:
        return True
    return str(PeftConfig.from_pretrained(str(previous.adapter)).peft_type.value) == _kind(tuned.model)


def save(model: Any, folder: Path, initial: Path, weights: dict[str, Any] | None = None) -> None:
    """Write the weights in Hugging Face layout.

    Args:
        model: what was trained.
        folder: where to.
        initial: the adapter before the first step, where its beginning was taken out of the base: it is subtracted,
            so that what is saved sits on the base as it was.
        weights: by name, where no process holds the whole model.
    """
    given: dict[str, Any] = {"selected_adapters": ["default"]} if isinstance(model, PeftModel) else {}
    if initial.exists():
        given["path_initial_model_for_weight_conversion"] = str(initial)
    model.save_pretrained(str(folder), state_dict=weights, **given)
    (folder / "README.md").unlink(missing_ok=True)  # a form whose blanks PEFT leaves open; the cycle writes a card


def _adapter(model: Any, tune: Tune) -> Tuned:
    wanted = PEFT_TYPES[tune.name]
    if isinstance(model, PeftModel):
        if judges(model) and model.peft_config["default"].task_type != REWARD_TASK:
            raise InputError(
                "the version that training starts from carries an adapter without a reward model's head",
                where="tune",
                fix="tune with full, which merges the adapter, or start from a version without one",
            )
        found = _kind(model)
        if found != wanted:
            raise InputError(
                f"the version that training starts from carries a {found} adapter; {tune.name} cannot go on with it",
                where="tune",
                fix=f"tune with {_tuner_of(found)}" + (", or full, which merges it" if found in MERGEABLE else ""),
            )
        return Tuned(_as_plain(model), "adapter", _count(model, _goes_on(model, tune)))
    config, what = adapter_config(model, tune)
    if isinstance(tune, Prompt | PTuning | Prefix):
        model.requires_grad_(False)
        return Tuned(learned := PromptLearned(model, config), "adapter", _count(learned, what))
    moved = isinstance(tune, Lora) and tune.init in MOVES_THE_BASE
    adapted = _as_plain(get_peft_model(model, config))
    return Tuned(adapted, "adapter", _count(adapted, what), moved_base=moved)


def _as_plain(model: Any) -> Any:
    """TRL rounds the adapters of a model that says it is quantised to bf16; here all that trains is float32.

    The base still says it, and that is where PEFT and transformers look.
    """
    model.is_loaded_in_4bit = model.is_loaded_in_8bit = False
    return model


def _goes_on(model: Any, tune: Tune) -> str:
    """What the adapter that is there is, and what of the tuner's wishes it cannot follow."""
    config = model.peft_config["default"]
    if isinstance(tune, Prompt | PTuning | Prefix):
        tokens = config.num_virtual_tokens
        ignored = f", goes on with the version's own; {tune.tokens} were asked for" if tokens != tune.tokens else ""
        return f"{tokens} virtual tokens{ignored}"
    if isinstance(tune, AdaLora):
        return f"AdaLoRA, mean rank {config.target_r}, goes on with the ranks that were given out"
    asked = getattr(tune, "rank", getattr(tune, "width", None))
    kind = "LoRA rank" if tune.name != "adapter" else "bottlenecks of width"
    if asked is None:
        return f"{tune.name}, goes on with the version's own"
    ignored = f", goes on with the adapter's own; {asked} was asked for" if config.r != asked else ""
    moved = isinstance(tune, Lora) and tune.init != "default"
    return f"{kind} {config.r}{ignored}{', init has no part in it' if moved else ''}"


def _merged(model: Any, tune: Tune) -> Any:
    if _kind(model) not in MERGEABLE:
        raise InputError(
            f"virtual tokens cannot be merged into the weights, which {tune.name} trains",
            where="tune",
            fix=f"tune with {_tuner_of(_kind(model))}, or start from a version without them",
        )
    return model.merge_and_unload()


def _kind(model: Any) -> str:
    return str(model.peft_config["default"].peft_type.value)


def _tuner_of(kind: str) -> str:
    return " or ".join(name for name, own in PEFT_TYPES.items() if own == kind) or "the tool that made it"


def _freeze(model: Any, tune: Freeze) -> str:
    layers = decoder_layers(model)
    trained = len(layers) - tune.frozen_layers if tune.frozen_layers is not None else tune.trainable_layers
    if not 1 <= trained <= len(layers):
        raise InputError(
            f"{trained} of {len(layers)} layers would train",
            where="tune.frozen_layers" if tune.frozen_layers is not None else "tune.trainable_layers",
            fix=f"the model has {len(layers)} layers: leave at least one to train",
        )
    model.requires_grad_(False)
    for layer in layers[len(layers) - trained :]:
        layer.requires_grad_(True)
    if judges(model):
        model.score.requires_grad_(True)
        return f"the last {trained} of {len(layers)} layers and the head"
    return f"the last {trained} of {len(layers)} layers"


def _count(model: Any, what: str) -> str:
    if isinstance(model, PeftModel):
        trained, total = model.get_nb_trainable_parameters()
    else:
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        total = sum(parameter.numel() for parameter in model.parameters())
    return f"{what}: {trained:,} of {total:,} parameters train ({100 * trained / total:.1f} %)"
