"""What every way of making a model smaller has in common: its methods, their options, and what it writes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftModel
from torch import nn

from nacre.base.errors import InputError, unknown
from nacre.model.align import aligns
from nacre.model.load import is_reward_model, load_model, model_type, stored_dtype
from nacre.model.pictures import sees
from nacre.model.quantised import stored_method
from nacre.model.tuners.apply import MERGEABLE
from nacre.records import Compressing, Weights
from nacre.records.compression import Smaller

Rows = Sequence[Sequence[int]]  # token ids of texts that show which weights matter


class Way(ABC):
    """One way of making a model smaller.

    Attributes:
        methods: how it can be done; the first is the default, none: there is one way only.
        refused: methods that people ask for and that are not there, and why.
        shares: by method, the share of weights that it keeps where none is asked for; empty: it keeps all of them.
        only: by method, the one share that it can keep.
        package, extra: what must be installed, and which extra of nacre's brings it; empty: nothing.
    """

    name: ClassVar[Smaller]
    methods: ClassVar[tuple[str, ...]] = ()
    refused: ClassVar[Mapping[str, str]] = {}
    shares: ClassVar[Mapping[str, float]] = {}
    only: ClassVar[Mapping[str, float]] = {}
    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""

    def settled(self, method: str | None, keep: float | None, heal: float | None) -> Compressing:
        """What is asked for, with every default filled in.

        Raises:
            InputError: an unknown method, or one that is not there; a package is missing; an option that this way or
                method does not have.
        """
        chosen = method or next(iter(self.methods), "")
        if chosen in self.refused:
            fix = f"--method {' or '.join(self.methods)}"
            raise InputError(f"{chosen} is not offered: {self.refused[chosen]}", where=f"--method {chosen}", fix=fix)
        if chosen not in self.methods and (self.methods or chosen):
            raise unknown(f"method of --to {self.name}", chosen, self.methods, where="--method")
        if self.package and find_spec(self.package) is None:
            what = f"--to {self.name} needs {self.package}, which is not installed"
            raise InputError(what, where=f"--to {self.name}", fix=f"pip install 'nacre[{self.extra}]'")
        for option, value in (("--keep", keep), ("--heal", heal)):
            if value is not None and chosen not in self.shares:
                raise InputError(f"--to {self.name} takes no weight away", where=option, fix=f"leave {option} out")
        if chosen not in self.shares:
            return Compressing(to=self.name, method=chosen)
        kept, possible = self.shares[chosen] if keep is None else keep, self.only.get(chosen)
        if possible is not None and kept != possible:
            others = ", ".join(one for one in self.methods if one not in self.only)
            fix = f"leave --keep out, or choose another method: {others}"
            raise InputError(f"{chosen} keeps {possible:g} of the weights", where=f"--keep {kept:g}", fix=fix)
        return Compressing(to=self.name, method=chosen, keep=kept, heal=1.0 if heal is None else heal)

    @abstractmethod
    def write(self, model: Any, folder: Path, asked: Compressing, rows: Rows) -> list[str]:
        """Make the model smaller and write it into the folder; returns what was decided or left, in sentences.

        Args:
            model: whole, in evaluation mode; it is not what it was afterwards.
            folder: exists.
            asked: as `settled` returned it.
            rows: token ids of a few texts that the model knows; none may be there.

        Raises:
            InputError: the model has nothing that can be made smaller in this way.
        """


def whole_model(weights: Weights) -> Any:
    """The model as one set of weights, as precise as stored, with its adapter merged into it.

    Raises:
        InputError: its weights are held in few bits already, it is a reward model or reads pictures, or its adapter
            cannot be merged.
    """
    where = weights.folder
    if stored_method(weights.model):
        fix = "compress the version that it was made of"
        what = "its weights are held in few bits already, and rounding them twice adds up"
        raise InputError(what, where=where, fix=fix)
    if is_reward_model(weights):
        raise InputError("a reward model answers nothing that could be compared", where=where, fix="leave it as it is")
    if sees(kind := model_type(weights.model)) or aligns(kind):
        what = "it reads pictures, and what sees was never made smaller here"
        raise InputError(what, where=where, fix="leave it as it is")
    if weights.several:
        fix = "compress a version with one adapter: train it with protect: merge, or put it together with --by merge"
        raise InputError(f"{weights.several} are not one set of weights", where=where, fix=fix)
    model = load_model(weights, dtype=stored_dtype(weights.changed(adapter=None)))
    if not hasattr(model, "peft_config"):
        return model
    kind = str(model.peft_config["default"].peft_type.value)
    if not isinstance(model, PeftModel) or kind not in MERGEABLE:
        fix = "compress a version without them"
        raise InputError("virtual tokens cannot be merged into the weights", where=where, fix=fix)
    return model.merge_and_unload().eval()


def plain_linear(model: Any) -> list[tuple[str, nn.Linear]]:
    """The linear layers by name that are nothing more than that; a subclass may do more than its weights say."""
    return [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
