"""The schema of `nacre.yaml`. One key is needed, `model`; everything else has a default."""

from typing import Literal

from pydantic import Field

from nacre.base.config import Settings
from nacre.records import Keep, Recipe, TaskSettings, Train, Tune
from nacre.records.recipe import Protect
from nacre.records.tune import Full
from nacre.serve.settings import Serve


class Data(Settings):
    """Reading an increment."""

    folder: str = Field("dataset", description="where base/, increment_1/ … and dataset_info.json are")
    drop_budget: float = Field(0.01, ge=0, le=1, description="share of unusable rows above which nothing is trained")
    dev_share: float = Field(0.1, gt=0, lt=1, description="split off train when an increment brings no dev set")
    general: str | None = Field(None, description="generic text; without it each version's parent is sampled once")


class Evaluate(Settings):
    """Scoring. What is not set is chosen from each task's data, with the reason shown."""

    tasks: dict[str, TaskSettings] = Field(default_factory=dict, description="settings of single tasks, by name")
    max_length: int = Field(1024, ge=8, description="tokens of prompt and answer together, at most the model's")


class Gate(Settings):
    """What happens to a version once it is judged."""

    promote: Literal["pass", "never"] = Field("pass", description="promote by itself when the gate passes, or never")


class Ledger(Settings):
    """Where versions, slots and events are kept."""

    url: str | None = Field(None, description="SQLAlchemy URL; default: SQLite in .nacre/ledger.db")


class WorkspaceSettings(Settings):
    """Everything `nacre.yaml` may say."""

    model: str = Field(description="folder of the base model, or a hub name that is in the local cache")
    tune: Tune = Field(Full(), description="which parameters train")
    train: Train = Train()
    protect: Protect = Field("auto", description="what acts against forgetting")
    keep: Keep = Keep()
    data: Data = Data()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()
    serve: Serve = Serve()
    ledger: Ledger = Ledger()

    @property
    def recipe(self) -> Recipe:
        """The part that a version carries with it."""
        return Recipe(tune=self.tune, train=self.train, protect=self.protect)
