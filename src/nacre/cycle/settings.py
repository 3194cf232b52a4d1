"""The schema of `nacre.yaml`. One key is needed, `model`; everything else has a default."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nacre.base.config import Settings
from nacre.records import Keep, Recipe, Retention, TaskSettings, Train, Tune
from nacre.records.gating import Gate
from nacre.records.judge import Judge
from nacre.records.learning import Learning
from nacre.records.mirror import Mlflow, Webhook
from nacre.records.recipe import Protect
from nacre.records.release import Release
from nacre.records.schedule import TIERS, Entry, distinct
from nacre.records.tune import Full
from nacre.records.watch import Watch
from nacre.serve.knowledge.settings import Knowledge
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
    judge: Judge | None = Field(None, description="a language model that scores answers, for the metric judge")
    general: tuple[str, ...] = Field(
        (), description="what no increment teaches: files of rows, tasks, or lm-eval:TASK; the matrix shows their loss"
    )


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
    release: Release = Release()
    schedule: Annotated[tuple[Entry, ...], AfterValidator(distinct)] = Field(
        TIERS, description="what `nacre schedule run` does by itself; default: the three tiers of docs/releases.md"
    )
    watch: Watch = Field(Watch(), description="how often `nacre watch` looks, and what may be spent by itself")
    serve: Serve = Serve()
    knowledge: Knowledge = Knowledge()
    feedback: Learning = Learning()
    retention: Retention = Retention()
    environment: Literal["show", "refuse"] = Field(
        "show", description="a version made with other libraries than those here: say so, or do not serve or score it"
    )
    ledger: Ledger = Ledger()
    mlflow: Mlflow | None = Field(None, description="where runs, versions and slots are shown to people")
    notify: tuple[Webhook, ...] = Field((), description="addresses that are told what happened")

    @property
    def recipe(self) -> Recipe:
        """The part that a version carries with it."""
        return Recipe(tune=self.tune, train=self.train, protect=self.protect)
