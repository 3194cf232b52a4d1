"""A gateway in a process of its own, for tests that kill it; what it serves comes as JSON on the command line."""

import json
import sys
from pathlib import Path

import gateway_kit  # noqa: F401  # beside it lies the engine

from nacre.records import Version, Weights
from nacre.registry.ledger import Ledger
from nacre.registry.store import ArtifactStore
from nacre.serve.engines import ENGINES
from nacre.serve.run import LedgerSource, serve
from nacre.serve.settings import Serve


def main() -> None:
    given = json.loads(sys.argv[1])
    ENGINES._entries["named"] = "gateway_kit:NamedEngine"
    store = ArtifactStore(Path(given["store"]))

    def resolve(version: Version) -> Weights:
        return Weights(identity=version.artifact, model=str(store.path(version.artifact)))

    with Ledger(given["url"], store) as ledger:
        source = LedgerSource(ledger, resolve, Path(given["secret"]))
        serve(source, Serve(**given["settings"]), announce=lambda url: print(url, flush=True))


main()
