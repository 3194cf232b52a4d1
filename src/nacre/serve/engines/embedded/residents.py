"""Versions in memory: bases, which several versions may share, and what each version adds."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError, NacreError
from nacre.model.align import aligns
from nacre.model.chat import empty_thought, prompt_ids, stop_ids, stop_texts
from nacre.model.ensemble import Ensemble, Plan
from nacre.model.load import judges, load_model, load_tokenizer
from nacre.model.prompts import has_prompts
from nacre.model.router import BASE, Router
from nacre.records import Message, Weights
from nacre.serve.engines import JsonFormat, Target, stopped
from nacre.serve.engines.embedded import adapters
from nacre.serve.engines.embedded.lora import Bank
from nacre.serve.engines.embedded.mixing import Mixing, Mixture
from nacre.serve.engines.embedded.prefix import PrefixCache
from nacre.serve.engines.embedded.probe import packed
from nacre.serve.engines.embedded.runners import BARE, Plain, Runner, plain_model
from nacre.serve.engines.embedded.templates import Renderer
from nacre.serve.engines.embedded.tokens import TokenTexts
from nacre.serve.engines.prompting import constrainer
from nacre.serve.settings import EmbeddedSettings

_log = logging.getLogger("nacre.serve")


Between = Callable[[Callable[[], None]], None]  # runs something between two steps of the engine's thread


class Base:
    """A model, how it reads, and the adapters on it.

    Attributes:
        users: versions that it answers for, loaded or still ending.
        bank: None where versions cannot share it.
        mixing: None where members of a mixture cannot be read side by side.
        prefixes: None where beginnings of prompts cannot be kept.
    """

    def __init__(self, model: Any, where: str, settings: EmbeddedSettings) -> None:
        if judges(model):
            raise InputError("a reward model gives numbers, not answers", where=where, fix="serve a language model")
        if aligns(model.config.model_type):
            raise InputError("two encoders find pictures, and say nothing", where=where, fix="serve a language model")
        self.model, self.users = model, 0
        self.context_tokens = _context_tokens(model, where)
        self.vocabulary = int(plain_model(model).get_output_embeddings().weight.shape[0])
        taken_over = packed(model, settings.kv_tokens, min(settings.kv_tokens, self.context_tokens))
        self.bank: Bank | None = None
        self.mixing: Mixing | None = None
        self.prefixes: PrefixCache | None = None
        self.runner: Runner
        if taken_over is None:
            self.runner = Plain(model, settings.kv_tokens, whole_prompts=hasattr(model, "router"))
        else:
            packing, self.bank = taken_over
            self.runner = self.mixing = Mixing(packing)
            self.prefixes = PrefixCache(settings.prefix_tokens)

    @property
    def embeds(self) -> bool:
        """Whether its hidden states stand for texts."""
        return not (has_prompts(self.model) or hasattr(self.model, "router") or isinstance(self.model, Ensemble))


class Resident:
    """A version in memory.

    Attributes:
        base: what computes; None once the version is freed.
        router: picks one of the adapters for each prompt, where there are several.
        plan: how several adapters answer together, where they do.
        mixed: the name of their mixture, where it is one.
        rows: requests accepted and not ended.
        renderer: renders its conversations; a process of its own, so that no version waits for another's template.
        reader: the thread that reads its prompts.
    """

    renderer: Renderer

    def __init__(
        self,
        target: Target,
        base: Base,
        tokenizer: Any,
        names: dict[str, str],
        router: Router | None,
        plan: Plan | None = None,
    ) -> None:
        self.target, self.base, self.tokenizer, self.router, self.plan = target, base, tokenizer, router, plan
        self.names = names  # of the adapters: in the bank, by the name of the router or the plan
        self.mixed = BARE
        self.stop_ids = stop_ids(tokenizer)
        self.stop_texts = stop_texts(tokenizer)
        self.empty_thought = empty_thought(tokenizer)
        self.texts = TokenTexts(tokenizer)
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="nacre-tokenize")  # starts with the first prompt
        self._constrainer: Any = None
        self.rows = 0
        self.leaving = False
        # A conversation as small as can be: a template that breaks its limits on this is no use to anybody.
        prompt_ids((Message(role="user", content="?"),), tokenizer)

    @property
    def only_adapter(self) -> str:
        """The adapter of every prompt, where no router decides."""
        return self.mixed or next(iter(self.names.values()), BARE)

    @property
    def voters(self) -> tuple[str, ...]:
        """The adapters that answer each by itself, in the order that decides ties; none where no vote is taken."""
        return tuple(self.names.values()) if self.plan is not None and self.plan.by == "vote" else ()

    def longest(self, kv_tokens: int) -> int:
        """Tokens that one row may have, prompt and answer, of a memory of so many."""
        if self.mixed and self.plan is not None and self.base.mixing is not None:
            return self.base.mixing.longest(len(self.plan.names))
        return kv_tokens - 1

    def constraint(self, asked: JsonFormat) -> Any:
        """What holds an answer to a format.

        Raises:
            InputError: the library is not installed, or the format cannot be enforced.
        """
        if self._constrainer is None:
            self._constrainer = constrainer(self.tokenizer, self.base.vocabulary, self.stop_ids)
        return self._constrainer.constraint(asked)

    def choose(self, hidden_D: Any) -> str:
        """The adapter that answers a prompt with this mean hidden state."""
        assert self.router is not None
        name = self.router.choose(hidden_D[None].double().cpu())[0]
        return BARE if name == BASE else self.names[name]


class Shelf:
    """Loads versions; those on one base share it.

    Args:
        between: how to change what the engine's thread works with.
    """

    def __init__(self, settings: EmbeddedSettings, between: Between) -> None:
        self._settings, self._between = settings, between
        self._shared: dict[object, Base] = {}
        self._lock = threading.Lock()
        self._numbers = 0
        self._renderers: set[Renderer] = set()
        self._closed = threading.Event()

    def load(self, target: Target) -> Resident:
        """Bring a version into memory; takes long, and is called by one thread at a time.

        Raises:
            NacreError: it cannot be loaded; nothing of it stays.
        """
        try:
            return self._load(target)
        except NacreError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:  # torn in new ways
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(
                f"the version cannot be loaded: {reason}", where=target.weights.folder, fix="restore the folder"
            ) from error

    def _load(self, target: Target) -> Resident:
        weights = target.weights
        if self._closed.is_set():
            raise stopped()
        tokenizer = load_tokenizer(weights)
        checked = adapters.check(weights, self._settings.max_rank)
        base, router = None, None
        plan = Plan.load(Path(str(weights.adapter))) if weights.ensemble else None
        names: dict[str, str] = {}
        if adapters.mixable(weights, checked):
            base = self._shared_base(weights)
            if base.bank is not None or not checked:
                router = Router.load(Path(str(weights.adapter))) if weights.routed else None
                apart = checked if plan is None or plan.by != "layers" else (plan.by,)
                names = {name: self._fresh_name() for name in apart}
            else:
                self._let_go(base)
                base = None
        if base is None:
            _check_alone(target, plan)
            base = Base(load_model(weights), weights.folder, self._settings)
            base.users = 1
        with ExitStack() as undo:
            undo.callback(self._let_go, base)
            renderer = Renderer(self._settings.template_s)
            with self._lock:
                if self._closed.is_set():
                    raise stopped()
                self._renderers.add(renderer)
            undo.callback(self._end, renderer)
            renderer.take_over(tokenizer)
            resident = Resident(target, base, tokenizer, names, router, plan)
            resident.renderer = renderer
            self._attach(resident, checked)
            undo.pop_all()
        return resident

    def _attach(self, resident: Resident, checked: Mapping[str, adapters.Checked]) -> None:
        """Put a version's adapters on its base."""
        base, plan = resident.base, resident.plan
        if base.bank is None:
            return
        if plan is not None and plan.by in ("mean", "weighted") and base.mixing is not None:
            mixed = self._fresh_name()
            base.mixing.put(mixed, Mixture(tuple(resident.names[name] for name in plan.names), plan.weights))
            resident.mixed = mixed
        for name, own in resident.names.items():
            added = adapters.stacked(checked, plan) if plan and name == plan.by else adapters.deltas(checked[name])
            self._between(partial(base.bank.attach, own, added))

    def free(self, resident: Resident) -> None:
        """Take a version's part out of memory, between two steps; its base too, if it was the last on it."""
        base = resident.base
        if base.bank is not None:
            for name in resident.names.values():
                base.bank.detach(name)
        if base.mixing is not None:
            base.mixing.drop(resident.mixed)
        if base.prefixes is not None:
            base.prefixes.forget(resident.target)
        self._let_go(base)
        self._end(resident.renderer)
        resident.reader.shutdown(wait=False)

    def close(self) -> None:
        """End the processes of all versions; what is being loaded comes to nothing."""
        with self._lock:
            self._closed.set()
        for renderer in tuple(self._renderers):
            self._end(renderer)

    def _end(self, renderer: Renderer) -> None:
        self._renderers.discard(renderer)
        renderer.close()

    def _shared_base(self, weights: Weights) -> Base:
        key = _stamp(weights)
        with self._lock:
            if key in self._shared:
                self._shared[key].users += 1
                return self._shared[key]
        bare = weights.changed(adapter=None)
        base = Base(load_model(bare), bare.folder, self._settings)
        base.users = 1
        with self._lock:
            self._shared[key] = base
        return base

    def _let_go(self, base: Base) -> None:
        with self._lock:
            base.users -= 1
            if not base.users:
                for key in [key for key, one in self._shared.items() if one is base]:
                    del self._shared[key]

    def _fresh_name(self) -> str:
        self._numbers += 1
        return f"adapter {self._numbers}"


def _check_alone(target: Target, plan: Plan | None) -> None:
    """Refuse a vote on a base of its own, which reads its rows through one model that averages.

    Raises:
        InputError: it is one.
    """
    if plan is not None and plan.by == "vote":
        what = f"version {target.label} is a vote, and its members cannot be answered side by side on this base"
        fix = "combine them by mean, or serve one of them"
        raise InputError(what, where=target.weights.folder, fix=fix)


def _stamp(weights: Weights) -> object:
    """What a base is known by: its folder and the files in it, so that a folder written anew is loaded anew."""
    folder = Path(weights.model)
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("config.json")) if folder.is_dir() else []
    stats = [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in (file.stat(),)]
    return str(folder.resolve()) if stats else weights.model, tuple(stats)


def _context_tokens(model: Any, where: str) -> int:
    tokens = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(tokens, int):
        raise NacreError(
            "the model does not say how long its context is",
            where=f"{where}/config.json",
            fix="add max_position_embeddings",
        )
    return tokens
