"""The `serve` part of `nacre.yaml`."""

from typing import Literal

from pydantic import Field

from nacre.base.config import Settings
from nacre.serve.engines.upstream.settings import Upstream


class GenerationDefaults(Settings):
    """How answers are drawn where a request says nothing. What is not set is left to the version.

    A version says it in its ``generation_config.json``; without one temperature, top_p and repetition_penalty are 1.
    """

    temperature: float | None = Field(default=None, ge=0, le=2, description="0 takes the likeliest token each time")
    top_p: float | None = Field(
        default=None, ge=0, le=1, description="only the likeliest tokens up to this probability"
    )
    top_k: int | None = Field(default=None, ge=0, description="only that many of the likeliest tokens; 0 for all")
    min_p: float | None = Field(default=None, ge=0, le=1, description="least share of the likeliest one's probability")
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="above 1: what was said gets rarer")
    max_tokens: int | None = Field(default=None, ge=1, description="most tokens of an answer")


class ShadowSettings(Settings):
    """How a version in the shadow is asked what users asked the champion."""

    share: float = Field(1.0, ge=0, le=1, description="share of the champion's requests that the shadow answers too")
    queue: int = Field(100, ge=1, description="requests that may wait for the shadow; one more is dropped and counted")
    concurrency: int = Field(1, ge=1, description="requests that the shadow answers at a time")
    deadline_s: float = Field(120, gt=0, description="seconds for one answer; what takes longer counts as an error")
    patience_s: float = Field(
        5, ge=0, description="seconds to wait for a moment without users' requests; after them it runs beside them"
    )


class Privacy(Settings):
    """What of people's questions and answers is kept, and whether it may be learned from."""

    consent: Literal["assumed", "asked"] = Field(
        "assumed",
        description="asked: only what was asked with the header x-nacre-consent: yes may be learned from; assumed: "
        "all but what was asked with x-nacre-consent: no",
    )
    clean: tuple[str, ...] = Field(
        ("secrets", "pii"),
        description="what is taken out of questions, answers and opinions before they are written, see nacre data "
        "clean; none keeps them as they are",
    )


class EmbeddedSettings(Settings):
    """What the engine inside the server process may hold in memory and do at a time."""

    max_running: int = Field(32, ge=1, description="requests that are answered side by side; more wait")
    kv_tokens: int = Field(
        32768,
        ge=64,
        description="tokens of prompts and answers that are in memory at a time, of one base model; a request that "
        "could never fit is refused, others wait",
    )
    prefill_tokens: int = Field(
        256, ge=1, description="tokens of prompts that are read in one step, beside one token of every answer"
    )
    prefix_tokens: int = Field(
        8192, ge=0, description="tokens of prompts' beginnings that are kept for prompts that begin alike; 0 for none"
    )
    max_rank: int = Field(256, ge=1, description="adapters of a higher rank are not loaded")
    template_s: float = Field(2.0, gt=0, description="seconds a chat template may take for one conversation")


class CTranslate2Settings(Settings):
    """How the engine `ctranslate2` holds versions and answers on the CPU."""

    precision: Literal["int8", "float32", "bfloat16"] = Field(
        "int8", description="in what the weights are held; int8 is the fastest, and rounds most"
    )
    parallel: int = Field(1, ge=1, description="requests that are answered side by side; more wait")
    threads: int = Field(0, ge=0, description="threads that compute one answer; 0: CTranslate2 decides")
    folder: str | None = Field(
        None, description="where converted versions are kept; default: .nacre/ctranslate2, without a workspace ~/.cache"
    )
    template_s: float = Field(2.0, gt=0, description="seconds a chat template may take for one conversation")


class Wire(Settings):
    """What connections may take: time, bytes, number."""

    header_s: float = Field(10, gt=0, description="seconds until a request's headers are whole, or its connection idle")
    body_s: float = Field(30, gt=0, description="seconds until its body is whole")
    write_s: float = Field(60, gt=0, description="seconds a client may take no byte of its answer")
    idle_s: float = Field(60, gt=0, description="seconds a connection stays open between two requests")
    header_bytes: int = Field(32 * 1024, ge=1024, description="request line and headers; longer ones are answered 431")
    connections: int = Field(4096, ge=1, description="open connections; one more is closed at once")
    requests: int = Field(1024, ge=1, description="requests at a time, streams included; one more is answered 503")


class Serve(Settings):
    """How the API is reached and what it bears.

    Without `api_keys` only loopback addresses are served.
    """

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="0 takes any free port")
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="gRPC listens here, on the same address; default: not at all"
    )
    api_keys: tuple[str, ...] = Field(default=(), repr=False, description="bearer keys: they open answers and feedback")
    name: str = Field(
        default="nacre", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="what clients put into `model`"
    )
    engine: str = Field(default="embedded", description="what answers, see nacre.serve.engines")
    upstream: Upstream = Field(default_factory=Upstream, description="the servers that answer for engine: upstream")
    embedded: EmbeddedSettings = Field(
        default_factory=EmbeddedSettings, description="what the engine `embedded` holds and does at a time"
    )
    ctranslate2: CTranslate2Settings = Field(
        default_factory=CTranslate2Settings, description="how the engine `ctranslate2` answers"
    )
    max_waiting: int = Field(default=64, ge=1, description="requests that may wait; one more is answered 503")
    max_body_bytes: int = Field(default=2 * 1024 * 1024, ge=1024, description="a longer request body is answered 413")
    drain_s: int = Field(default=30, ge=1, description="seconds running answers get when the server is told to stop")
    max_choices: int = Field(default=16, ge=1, description="most answers to one prompt (`n`)")
    strict: bool = Field(default=False, description="refuse unknown keys of a request instead of ignoring them")
    defaults: GenerationDefaults = Field(
        default_factory=GenerationDefaults, description="how answers are drawn where a request says nothing"
    )
    admin_host: str = Field(default="127.0.0.1", description="address of the admin listener")
    admin_port: int | None = Field(
        default=None, ge=0, le=65535, description="the admin API and /metrics listen here alone; default: on `port`"
    )
    privacy: Privacy = Privacy()
    shadow: ShadowSettings = ShadowSettings()
    wire: Wire = Wire()
    log: Literal["json", "text", "off"] = Field(
        default="json", description="stderr of `nacre serve`: json has a line a request, text what is amiss alone"
    )
    log_content: bool = Field(default=False, description="prompts and answers go into the log too")
    otlp: str | None = Field(
        default=None, description="traces go to this OTLP endpoint, e.g. http://127.0.0.1:4318/v1/traces"
    )
