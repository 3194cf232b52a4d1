"""Who outside is told what happened: the sections `mlflow` and `notify` of nacre.yaml."""

import os
import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field

from nacre.base.addresses import shown_address
from nacre.base.config import Settings
from nacre.base.hashing import sha256_text

_SQLITE = "sqlite:///"
_STORES = ("http://", "https://", _SQLITE, "postgresql://", "postgresql+", "mysql+", "mssql+")
_ENVIRONMENT = "env:"


def _split(value: str) -> SplitResult:
    """The address in parts. No error quotes it: what stands in the wrong place may be a secret."""
    if re.search(r"[\s\x00-\x1f\x7f-\x9f]", value):
        raise ValueError("an address holds no blanks and no control characters: write %20 for a blank")
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError("this is no address: look at its host") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port must be a number from 1 to 65535; in a password write %2F for / and %3A for :")
    return parts


def _store(value: str) -> str:
    if not value.startswith(_STORES):
        raise ValueError("give a server (http://host:5000) or a database (sqlite:///mlflow.db): MLflow takes no folder")
    if not value.startswith(_SQLITE):
        parts = _split(value)
        if parts.scheme in ("http", "https") and (parts.query or parts.fragment):
            raise ValueError("MLflow's server takes no ? and no # in its address; a token goes into the environment")
    return value


def _web(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user and no password before the host: they are not sent; sign the body with secret")
    if not (parts.path + parts.query).isascii():
        raise ValueError("write letters beyond ASCII behind the host as %XX")
    return value


def _model_name(value: str) -> str:
    if re.search(r"[/:.%\"'\\]", value) or not value.strip():
        raise ValueError("MLflow's model names hold no / : . % nor quotes")
    return value


class Mlflow(Settings):
    """Where runs, versions and slots are shown to people. Nothing is ever read back from there for a decision."""

    uri: Annotated[str, AfterValidator(_store)] = Field(
        repr=False, description="MLflow server (http://host:5000), or its database (sqlite:///mlflow.db)"
    )
    experiment: str = Field("nacre", min_length=1, description="experiment that gets one run for each version")
    model: Annotated[str, AfterValidator(_model_name)] = Field(
        "nacre", description="registered model that gets the versions and the aliases; of this ledger alone"
    )
    by: Literal["all", "mirror"] = Field(
        "all", description="who tells it: commands that write and the server, or nacre mirror run alone"
    )


class Webhook(Settings):
    """One address that is told what happened, as a signed JSON object for each event."""

    url: Annotated[str, AfterValidator(_web)] = Field(repr=False, description="address that gets a POST for each event")
    events: tuple[str, ...] = Field(
        ("*",), min_length=1, description="kinds of events, * for any end, e.g. promoted, release*; see nacre versions"
    )
    secret: str | None = Field(
        None, repr=False, min_length=1, description="signs the body (HMAC-SHA256); env:NAME reads it from a variable"
    )

    @property
    def name(self) -> str:
        """Under which the ledger remembers how far this address has been told."""
        return f"webhook {sha256_text(self.url)[:12]}"

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        return shown_address(self.url)

    @property
    def key(self) -> str | None:
        """The secret itself; an empty text where the variable that should hold it is not set."""
        if self.secret is None or not self.secret.startswith(_ENVIRONMENT):
            return self.secret
        return os.environ.get(self.secret.removeprefix(_ENVIRONMENT), "")
