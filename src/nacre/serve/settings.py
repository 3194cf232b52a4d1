"""The `serve` part of `nacre.yaml`."""

from pydantic import Field

from nacre.base.config import Settings


class Serve(Settings):
    """How the API is reached and what it bears.

    Without `api_keys` only loopback addresses are served.
    """

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="0 takes any free port")
    api_keys: tuple[str, ...] = Field(default=(), repr=False, description="bearer keys; any of them opens the API")
    name: str = Field(
        default="nacre", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="what clients put into `model`"
    )
    engine: str = Field(default="embedded", description="what answers, see nacre.serve.engines")
    max_waiting: int = Field(default=64, ge=1, description="requests that may wait; one more is answered 503")
    max_body_bytes: int = Field(default=2 * 1024 * 1024, ge=1024, description="a longer request body is answered 413")
    drain_s: int = Field(default=30, ge=1, description="seconds running answers get when the server is told to stop")
