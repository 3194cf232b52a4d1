"""`nacre serve`: the champion behind an OpenAI-compatible API."""

from typing import Annotated

import typer

from nacre.cli.common import HERE, WorkspaceOption, console, open_workspace, verb_app, warn

app = verb_app()


@app.command()
def serve(
    workspace: WorkspaceOption = HERE,
    host: Annotated[str | None, typer.Option(help="address", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="port; 0 takes a free one", show_default="8000")] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="port for gRPC; 0 takes a free one", show_default="no gRPC")
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key", help="key that clients must send; may be given several times", envvar="NACRE_API_KEY"
        ),
    ] = None,
) -> None:
    """Answer /v1/chat/completions, /v1/models, /v1/feedback and /health, following promotions and rollbacks."""
    from nacre.base.config import parse
    from nacre.cycle.environment import checked
    from nacre.cycle.mirrors.mirror import following
    from nacre.cycle.releases.steering import actions
    from nacre.serve.run import LedgerSource
    from nacre.serve.run import serve as serve_api
    from nacre.serve.settings import Serve

    given = {"host": host, "port": port, "grpc_port": grpc_port, "api_keys": tuple(api_key) if api_key else None}
    with open_workspace(workspace) as space, following(space):
        chosen = space.settings.serve.model_dump() | {key: value for key, value in given.items() if value is not None}
        serve_api(
            LedgerSource(space.ledger, checked(space, warn), space.hidden / "secret", space.serving, actions(space)),
            parse(Serve, chosen, where="nacre serve"),
            announce=lambda url: console.print(f"serving at {url}", markup=False),
        )
