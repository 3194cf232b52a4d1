"""Who outside is told what happened: the sections `mlflow` and `notify` of nacre.yaml."""

import os
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from nacre.base.config import Settings
from nacre.base.hashing import sha256_text

_STORES = ("http://", "https://", "sqlite:///", "postgresql://", "postgresql+", "mysql+", "mssql+")
_ENVIRONMENT = "env:"


def _store(value: str) -> str:
    if value.startswith(_STORES):
        return value
    raise ValueError("give a server (http://host:5000) or a database (sqlite:///mlflow.db): MLflow takes no folder")


def _web(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address that begins with https:// or http://")
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
        """The address without what may be secret in it: user, path beyond the first word, query."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"

    @property
    def key(self) -> str | None:
        """The secret itself; an empty text where the variable that should hold it is not set."""
        if self.secret is None or not self.secret.startswith(_ENVIRONMENT):
            return self.secret
        return os.environ.get(self.secret.removeprefix(_ENVIRONMENT), "")
