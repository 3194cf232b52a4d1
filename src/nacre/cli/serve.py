"""`nacre serve`: the champion behind an OpenAI-compatible API."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nacre.cli.common import HERE, WorkspaceOption, console, open_workspace, verb_app, warn

app = verb_app()

HostOption = Annotated[str | None, typer.Option(help="address", show_default="127.0.0.1")]
PortOption = Annotated[int | None, typer.Option(help="port; 0 takes a free one", show_default="8000")]
GrpcPortOption = Annotated[int | None, typer.Option(help="port for gRPC; 0 takes a free one", show_default="no gRPC")]
KeyOption = Annotated[
    list[str] | None,
    typer.Option("--api-key", help="key that clients must send; may be given several times", envvar="NACRE_API_KEY"),
]


@app.command()
def serve(
    workspace: WorkspaceOption = HERE,
    host: HostOption = None,
    port: PortOption = None,
    grpc_port: GrpcPortOption = None,
    api_key: KeyOption = None,
) -> None:
    """Answer /v1/chat/completions, /v1/models, /v1/feedback and /health, following promotions and rollbacks."""
    given = {"host": host, "port": port, "grpc_port": grpc_port, "api_keys": tuple(api_key) if api_key else None}
    run(workspace, given)


def run(workspace: Path, given: Mapping[str, Any], page: Any = None) -> None:
    """Serve a workspace until it is told to stop.

    Args:
        workspace: its folder.
        given: what the command line sets of `Serve`; None for what it does not.
        page: what puts a page beside the API, see `LedgerSource.page`.
    """
    from nacre.base.config import parse
    from nacre.cycle.environment import checked
    from nacre.cycle.mirrors.mirror import following
    from nacre.cycle.releases.steering import actions
    from nacre.cycle.rows.knowledge_at import where
    from nacre.serve.run import LedgerSource
    from nacre.serve.run import serve as serve_api
    from nacre.serve.settings import Serve

    with open_workspace(workspace) as space, following(space):
        chosen = space.settings.serve.model_dump() | {key: value for key, value in given.items() if value is not None}
        held = dict(chosen["ctranslate2"])
        chosen["ctranslate2"] = held | {"folder": held["folder"] or str(space.converted)}
        secret, resolve = space.hidden / "secret", checked(space, warn)
        serve_api(
            LedgerSource(space.ledger, resolve, secret, space.serving, actions(space), page, where(space)),
            parse(Serve, chosen, where="nacre serve"),
            announce=lambda url: console.print(f"serving at {url}{', the page at /ui' if page else ''}", markup=False),
            beside=lambda what, where: console.print(f"{what} at {where}", markup=False),
        )
