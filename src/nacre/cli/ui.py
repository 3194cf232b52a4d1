"""`nacre ui`: the server with the page."""

from nacre.base.errors import InputError
from nacre.cli.common import HERE, WorkspaceOption, verb_app
from nacre.cli.serve import GrpcPortOption, HostOption, KeyOption, PortOption, run

app = verb_app()


@app.command()
def ui(
    workspace: WorkspaceOption = HERE,
    host: HostOption = None,
    port: PortOption = None,
    grpc_port: GrpcPortOption = None,
    api_key: KeyOption = None,
) -> None:
    """Serve as `nacre serve` does, with a page at /ui: chat, evolution, releases, feedback, data reports, training."""
    try:
        from nacre.ui.page import page
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed", where="nacre ui", fix="pip install 'nacre[ui]'") from None
    given = {"host": host, "port": port, "grpc_port": grpc_port, "api_keys": tuple(api_key) if api_key else None}
    run(workspace, given, page)
