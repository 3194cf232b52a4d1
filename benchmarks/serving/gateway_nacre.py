"""nacre's gateway over a ledger, with the upstream engine in front of the stub at STUB.

python benchmarks/serving/gateway_nacre.py PORT KEY FOLDER
"""

import os
import sys
from pathlib import Path

from nacre.records import RowsFile, Snapshot, Weights
from nacre.records.recipe import Recipe
from nacre.records.version import Environment
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore
from nacre.serve.engines.upstream.settings import Upstream
from nacre.serve.run import LedgerSource, serve
from nacre.serve.settings import Serve


def serve_nacre(port: int, key: str, folder: Path) -> None:
    """nacre's gateway over a ledger, with the upstream engine."""
    store, model = ArtifactStore(folder / "artifacts"), folder / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    with Ledger(f"sqlite:///{folder / 'ledger.db'}", store) as ledger:
        if not ledger.versions():  # else it was killed and goes on
            ledger.add_version(
                base="base",
                base_sha256="0" * 64,
                kind="full",
                artifact=store.publish_folder(model),
                recipe=Recipe(),
                environment=Environment(python="3", packages={}, machine="here", device="cpu"),
                snapshot=Snapshot(task="t", train=RowsFile(sha256="a" * 64, rows=1), dev=None, sources={}),
                tasks=("t",),
            )
            ledger.promote(1, actor="benchmark", why="start")
        source = LedgerSource(
            ledger, lambda version: Weights(identity=version.artifact, model=str(model)), folder / "secret"
        )
        settings = Serve(
            port=port,
            name="bot",
            api_keys=(key,),
            engine="upstream",
            upstream=Upstream(urls=(os.environ["STUB"],), models={"*": "m"}),
        )
        serve(source, settings, announce=print)


if __name__ == "__main__":
    serve_nacre(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
