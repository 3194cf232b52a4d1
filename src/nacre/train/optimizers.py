"""Optimizers and schedulers by transformers' names: which can be asked for, and why not the others. No torch here."""

from importlib.util import find_spec

from nacre.base.errors import InputError, nearest

SCHEDULERS = (  # those that need nothing but the number of steps
    "constant",
    "constant_with_warmup",
    "cosine",
    "cosine_with_restarts",
    "inverse_sqrt",
    "linear",
    "polynomial",
)

BITSANDBYTES = (
    "adamw_bnb_8bit",
    "adamw_8bit",
    "ademamix",
    "ademamix_8bit",
    "lion_8bit",
    "lion_32bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
)
NEEDS = {  # a package that may not be there
    **dict.fromkeys(BITSANDBYTES, "bitsandbytes"),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), "torchao"),
    **dict.fromkeys(("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), "schedulefree"),
    "grokadamw": "grokadamw",
    "stable_adamw": "optimi",
    "adamw_anyprecision": "torchdistx",
}
_LOW_RANK = "it wants modules of its own choosing, which no setting names"
_IN_BACKWARD = "it steps inside the backward pass, where nothing can be protected"
_DEVICE = "it is made for a device that nacre does not train on"
REFUSED = {
    **dict.fromkeys(("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "apollo_adamw"), _LOW_RANK),
    **dict.fromkeys(
        (
            "galore_adamw_layerwise",
            "galore_adamw_8bit_layerwise",
            "galore_adafactor_layerwise",
            "apollo_adamw_layerwise",
            "lomo",
            "adalomo",
        ),
        _IN_BACKWARD,
    ),
    **dict.fromkeys(("adamw_torch_xla", "adamw_torch_npu_fused"), _DEVICE),
}
PLAIN = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")  # torch's and transformers' own
KNOWN = (*PLAIN, *NEEDS)


def problem(name: str) -> tuple[str, str] | None:
    """(what is wrong, what to take instead) with an optimizer of that name; None: it can be used."""
    if name in PLAIN:
        return None
    if name in REFUSED:
        return f"the optimizer {name} is not supported: {REFUSED[name]}", _instead(name)
    if name not in NEEDS:
        close = nearest(name, KNOWN)
        hint = f"did you mean '{close}'? " if close else ""
        return f"unknown optimizer '{name}'", f"{hint}Known: {', '.join(sorted(KNOWN))}"
    if find_spec(NEEDS[name]) is None:
        return f"the optimizer {name} needs the package {NEEDS[name]}, which is not installed", _instead(name)
    return None


def check_optimizer(name: str | None) -> None:
    """Whether the optimizer that is asked for can be used; None is the trainer's own choice.

    Raises:
        InputError: it cannot, or there is none of that name.
    """
    found = problem(name) if name is not None else None
    if found is not None:
        raise InputError(found[0], where="train.optimizer", fix=found[1])


def _instead(name: str) -> str:
    """The nearest that there always is."""
    saves = any(part in name for part in ("8bit", "4bit", "galore", "apollo", "lomo", "adafactor", "paged"))
    if saves:
        return "adafactor, which saves memory too"
    return next((plain for plain in ("sgd", "rmsprop") if plain in name), "adamw_torch")
