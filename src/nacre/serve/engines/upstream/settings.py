"""The `serve.upstream` part of `nacre.yaml`."""

from typing import Literal

from pydantic import Field

from nacre.base.config import Settings
from nacre.serve.engines import Feature

Kind = Literal["openai", "vllm", "llamacpp", "nacre"]


class Upstream(Settings):
    """The servers that answer, for `engine: upstream`. Only this file names them, never a request."""

    urls: tuple[str, ...] = Field(
        (), description="where they are, replicas of one another: http://10.0.0.5:8000/v1; never with a password in it"
    )
    kind: Kind = Field("openai", description="what they are; vllm gets the ledger's adapters as they come and go")
    api_key_env: str | None = Field(None, description="environment variable that holds the key for the servers")
    models: dict[str, str] = Field(
        default_factory=dict,
        description="by version number, the model's name there; '*' stands for the others; default: found by asking",
    )
    folders: dict[str, str] = Field(
        default_factory=dict, description="where the servers see our folders: beginning of our path to that of theirs"
    )
    features: tuple[Feature, ...] | None = Field(
        None, description="what they can do beside text; default: what servers of that kind can"
    )
    connect_s: float = Field(5.0, gt=0, description="seconds to reach a server")
    first_s: float = Field(120.0, gt=0, description="seconds until the first piece of a streamed answer")
    stall_s: float = Field(60.0, gt=0, description="seconds between two pieces of a streamed answer")
    answer_s: float = Field(600.0, gt=0, description="seconds for a whole answer")
    load_s: float = Field(120.0, gt=0, description="seconds for a version to appear on a server")
    health_s: float = Field(2.0, gt=0, description="seconds between two looks at each server")
    retries: int = Field(2, ge=0, description="more tries of one request, each on another server where there is one")
    retry_share: float = Field(
        0.2, ge=0, le=1, description="retries as a share of all requests; beyond it failures are passed on"
    )
    breaker_failures: int = Field(5, ge=1, description="failures in a row after which a server is left alone")
    breaker_open_s: float = Field(5.0, gt=0, description="seconds it is left alone before one request tries it again")
    max_connections: int = Field(1024, ge=1, description="connections to each server")
    max_event_bytes: int = Field(1024 * 1024, ge=1024, description="a longer event of a stream ends the answer")
    max_answer_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="a longer answer is broken off")
