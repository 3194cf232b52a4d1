"""One server for each engine that conforms, each with two versions under names, slots and keys."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from serving_kit import Place

from nacre.serve.engines.upstream.settings import Upstream
from nacre.serve.run import background
from nacre.serve.settings import Serve

KEY = "conformance-key"


@contextmanager
def _embedded(place: Place) -> Iterator[str]:
    with background(place.source, Serve(port=0, name="bot", api_keys=(KEY,))) as url:
        yield url


@contextmanager
def _upstream(place: Place) -> Iterator[str]:
    """A nacre that asks a nacre, which follows the same ledger under another name."""
    with ExitStack() as stack:
        behind = replace(place.source, ledger=stack.enter_context(place.open_again()))
        url = stack.enter_context(background(behind, Serve(port=0, name="behind")))
        upstream = Upstream(urls=(f"{url}/v1",), kind="nacre", models={"1": "behind@1", "2": "behind@2"})
        settings = Serve(port=0, name="bot", api_keys=(KEY,), engine="upstream", upstream=upstream)
        yield stack.enter_context(background(place.source, settings))


@contextmanager
def _ctranslate2(place: Place) -> Iterator[str]:
    held = {"folder": str(place.secret.parent / "ctranslate2"), "precision": "float32", "threads": 1}
    with background(
        place.source, Serve(port=0, name="bot", api_keys=(KEY,), engine="ctranslate2", ctranslate2=held)
    ) as url:
        yield url


# Every engine of the table stands here, so that none is left out in silence.
SERVERS: dict[str, Callable[[Place], "contextmanager[str]"]] = {
    "embedded": _embedded,
    "upstream": _upstream,
    "ctranslate2": _ctranslate2,
}
WITHOUT_EMBEDDINGS = ("ctranslate2",)
