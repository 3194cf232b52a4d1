"""One adapter an increment, and a router that picks one for each prompt: nothing old is ever overwritten.

Each increment trains a LoRA adapter of its own on the same frozen base; the adapters before it stay as they are, byte
for byte. Which one answers a prompt is told by the base's hidden states (`nacre.model.router`), in evaluation and in
serving alike, so an old task can lose nothing but prompts that are sent to another task's adapter. After Any-SSR (Tong
et al. 2025, arXiv 2503.13575), with nearest task means in place of recursive least squares. The price is that no
task helps another.

What is kept of an old task is its adapter and sums over its prompts, so none of its rows is needed; with `unknown:
base` also what the router reads of up to 64 of its prompts. Where training starts from a version that was not made this
way, that version is the frozen base from then on, or its LoRA adapter is taken over as the first; which prompts are
its own is learned from the rows kept of its tasks, once.

A task that is learned again gets a new adapter, begun as a copy of the one it had; the router sends the task to the
new one, and the old rows of this very task, if there are any, are mixed in. An adapter that no task needs any more is
left out of the new version; it is in those before.

Cost while training: none in a step. After training one forward pass of the base over up to `prompts` prompts of the
new rows. When answering: one forward pass of the base over each prompt, as soon as there are two adapters; the
adapters themselves in memory, and on disk D * D numbers for the router at hidden size D.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftConfig, PeftType
from peft.utils import load_peft_weights, set_peft_model_state_dict
from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.base.progress import progress
from nacre.model.chat import encode_text, prompt_ids, shorten
from nacre.model.routed import Routed, with_adapters
from nacre.model.router import BASE, Router, Unknown, read_prompts
from nacre.records import Example
from nacre.records.tune import MOVES_THE_BASE, Lora
from nacre.train.protect.base import Context, MixIn, Protection, TrainingRows

OWN = "default"  # what the adapter that trains is called inside the model
ASIDE, ASIDE_PART = 64, 5  # prompts that only tell how far is too far: at most so many, and one in so many

_APART = "earlier tasks are answered by their own adapters, so holding the new one back for them keeps nothing"
_ONE = "it makes one set of weights of old and new, which are kept apart here"
_OTHER_BASE = "it changes the base model, on which the earlier adapters sit"


class Separate(Protection):
    """Train an adapter beside the earlier ones, which stay as they are, and teach the router its prompts."""

    name = "separate"
    pictures = True
    tuners = ("lora",)
    stages = ("sft", "pt", "dpo", "kto")
    contradicts: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("agem", "distill", "ewc", "l2", "orthogonal", "si"), _APART),
        **dict.fromkeys(("average", "intruder", "merge"), _ONE),
        **dict.fromkeys(("block-expansion", "freeze", "osf"), _OTHER_BASE),
    }
    reshapes = True
    afresh = True

    class Config(Settings):
        """Options of separate adapters."""

        prompts: int = Field(1000, ge=2, description="training prompts of a task that the router reads, at most")
        unknown: Unknown = Field(
            "nearest",
            description="who answers a prompt farther from every task than prompts of that task that were set aside "
            "(a fifth, at most 64, so about one of its own in 65 is): the nearest task's adapter, or the base",
        )

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        _check_tuner(context)
        self._kept: dict[str, Path] = {}
        self._first = ""  # what of the earlier version answers the tasks it knows, where it has no router
        self._router = Router(unknown=config.unknown)
        earlier = context.previous.adapter
        if earlier is not None and context.previous.routed:
            found = Router.load(earlier)
            self._router = Router(found.routes, found.mean_KD, found.scatter_DD, found.aside_PD, config.unknown)
            self._kept = {name: earlier / name for name in found.adapters if name != BASE}
        elif earlier is not None:
            _check_taken_over(earlier, context)
            self._first = _name(1)
            self._kept = {self._first: earlier}
        else:
            self._first = BASE
        if self._first:
            self._check_known_prompts()
        self._task = context.task or f"increment {len(self._router.routes) + 1}"

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Nothing of other tasks; where this very task is learned again, its old rows beside the new ones."""
        self._new = rows.new
        new = {row.content_id for row in rows.new}
        old = [row for row in self.context.memory.get(self._task, ()) if row.content_id not in new]
        if not old:
            return rows
        share = min(0.5, len(old) / (len(old) + len(rows.new)))
        self.notes.append(f"separate: {self._task} was learned before: {share:.0%} of every batch from its old rows")
        return rows.with_rows(MixIn(self.name, share, (old,)))

    def model(self, model: Any) -> Any:
        """Begin the new adapter where the task's earlier one ended, if it was learned before and has one."""
        known = self._router.of_task(self._task)
        name = known.adapter if known else self._first if self._task in self.context.memory else BASE
        if name == BASE:
            return model
        folder = self._kept[name]
        config, own = PeftConfig.from_pretrained(str(folder)), model.peft_config[OWN]
        if (config.r, config.lora_alpha, config.use_rslora) != (own.r, own.lora_alpha, own.use_rslora):
            self.notes.append(f"separate: {self._task} begins anew: its earlier adapter has another rank or scaling")
            return model
        given = load_peft_weights(str(folder), device="cpu")
        if set_peft_model_state_dict(model, given, adapter_name=OWN).unexpected_keys:
            self.notes.append(f"separate: {self._task} begins anew where its earlier adapter sits on other modules")
        return model

    def finish(self, model: Any) -> Routed:
        """Teach the router the new prompts, and put the model behind it."""
        router = self._router if self._router.routes else self._with_earlier_tasks(model)
        name = _name(1 + max((int(known.rpartition("_")[2]) for known in self._kept), default=0))
        router = self._learned(router, self._task, name, model, self._new)
        dropped = [known for known in self._kept if known not in router.adapters]
        kept = {known: folder for known, folder in self._kept.items() if known in router.adapters}
        if dropped:
            self.notes.append(f"separate: {', '.join(dropped)} answers no task any more and is left out")
        names = ", ".join(f"{route.task} {_said(route.adapter)}" for route in router.routes)
        self.notes.append(f"separate: {name} was trained beside what was there; the router knows {names}")
        if not router.needs_reading:
            self.notes.append(f"separate: with one adapter there is nothing to choose: {name} answers every prompt")
        return Routed(with_adapters(model, kept), router, within={name: OWN}, kept=kept)

    def _with_earlier_tasks(self, model: Any) -> Router:
        """A router for what the version before answers itself: learned from the rows kept of its tasks."""
        router = self._router
        for task, rows in self.context.memory.items():
            if rows:
                router = self._learned(router, task, self._first, model, rows)
            else:
                self.notes.append(f"separate: no rows of {task} are kept, so no prompt is known to be one of its own")
        if router.routes:
            named = "the version before, the frozen base from now on" if self._first == BASE else self._first
            self.notes.append(f"separate: {', '.join(route.task for route in router.routes)}: answered by {named}")
        elif self.config.unknown == "nearest":
            self.notes.append("separate: no earlier task is known, so no prompt goes to the base without adapters")
        return router

    def _check_known_prompts(self) -> None:
        """Refuse to put adapters beside a version of which nothing says what it is to answer: all would be lost."""
        known = any(self.context.memory.values())
        if known or (not self.context.learned and self._first == BASE):
            return
        if self._first == BASE and self.config.unknown == "base":
            return  # what is far from the new task goes to it
        raise InputError(
            "nothing tells which prompts the version before is to answer: no rows of its tasks are kept",
            where="protect: separate",
            fix="keep some of its rows, protect in another way"
            + (", or set unknown: base" if self._first == BASE else ", or start from a version without an adapter"),
        )

    def _learned(self, router: Router, task: str, adapter: str, model: Any, rows: Sequence[Example]) -> Router:
        """The router with a task more, or more of a task, read from the prompts of these rows."""
        prompts = _prompts(rows, self.context.tokenizer, self.context.max_length, self.config.prompts)
        training = model.training
        model.eval()
        with model.disable_adapter(), progress(f"reading prompts of {task}", len(prompts)) as advance:
            read_ND = read_prompts(model.get_base_model(), prompts, advance)
        model.train(training)
        aside = min(ASIDE, len(prompts) // ASIDE_PART) if self.config.unknown == "base" else 0
        return router.with_task(task, adapter, read_ND[aside:], read_ND[:aside])


def _prompts(rows: Sequence[Example], tokenizer: Any, max_length: int, most: int) -> list[list[int]]:
    """Token ids of the prompts as they are answered, at most `most` of them; of plain text its first block.

    The same ones in whatever order the rows come.
    """
    found = []
    for row in sorted(rows, key=lambda row: row.content_id)[:most]:
        if row.kind == "text":
            found += [block.input_ids for block in encode_text([row.prompt[0].content], tokenizer, max_length)[:1]]
        else:
            whole = prompt_ids(row.prompt, tokenizer, system=row.system, tools=row.tools, images=row.images)
            found.append(shorten(whole, max_length))
    found = [prompt for prompt in found if prompt]
    if not found:
        raise InputError(
            "no row has a prompt that the router could read", where="protect: separate", fix="look at the data"
        )
    return found


def _check_tuner(context: Context) -> None:
    """Refuse adapters that cannot answer beside others in one batch, or do not sit on the base as it is."""
    tune = context.tune
    assert isinstance(tune, Lora)
    unfit = {
        "dora": tune.dora,
        "modules_to_save": bool(tune.modules_to_save),
        f"init {tune.init}": tune.init in MOVES_THE_BASE,
    }
    for option in (option for option, asked in unfit.items() if asked):
        raise InputError(
            f"protection 'separate' does not work with {option}: rows of several such adapters cannot be answered "
            "over one base",
            where="tune",
            fix=f"leave {option.split()[0]} out, or protect in another way",
        )
    if context.previous.model != context.start.model or (
        context.start.adapter is not None and context.start != context.previous
    ):
        raise InputError(
            "separate adapters go on from the version that is to be kept, and training starts from another one",
            where=f"{context.start.folder}, {context.previous.folder}",
            fix="start from the version that is to be kept",
        )


def _check_taken_over(adapter: Path, context: Context) -> None:
    """Refuse an earlier adapter that cannot stand beside others."""
    config = PeftConfig.from_pretrained(str(adapter))
    plain = config.peft_type == PeftType.LORA and not getattr(config, "use_dora", False)
    if not plain or getattr(config, "modules_to_save", None):
        raise InputError(
            "the version that training starts from has an adapter that cannot stand beside others",
            where=str(adapter),
            fix="start from a version with a plain LoRA adapter, from a whole model, or from the base model",
        )


def _name(number: int) -> str:
    return f"adapter_{number}"


def _said(adapter: str) -> str:
    return "(base)" if adapter == BASE else f"({adapter})"
