"""The served document describes the server: every route is in it, and what it says holds under generated requests."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nacre.records import Weights
from nacre.serve.api.openapi import document
from nacre.serve.api.routes import ROUTES
from nacre.serve.engines import ENGINES
from nacre.serve.run import background
from nacre.serve.settings import Serve

KEY = "the-key"

# What no JSON Schema can say: that system messages come first, that a model of that name is loaded, that an answer
# of that id was given; so not every request that fits the schemas is accepted.
NOT_CHECKED = "positive_data_acceptance"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES._entries, "scripted", "scripted_engine:ScriptedEngine")
        weights = Weights(identity="5" * 64, model="/nowhere")
        with background(weights, Serve(port=0, name="bot", engine="scripted", api_keys=(KEY,))) as url:
            yield url


def _get(url: str, key: str = "") -> tuple[int, Any]:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_document_has_every_route_and_opens_to_a_key_alone(url: str) -> None:
    assert _get(f"{url}/openapi.json")[0] == 401
    status, served = _get(f"{url}/openapi.json", KEY)
    assert status == 200
    assert served == json.loads(json.dumps(document()))
    routes = {(route.path, method.lower()) for route in ROUTES for method in route.methods or () if method != "HEAD"}
    described = {(path, method) for path, methods in served["paths"].items() for method in methods}
    assert routes - described == {("/openapi.json", "get")}
    assert described <= routes


def test_without_a_key_every_route_and_method_answers_401(url: str) -> None:
    for route in ROUTES:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            path = route.path.replace("{name}", "bot")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(url + path, method=method), timeout=30)
            refused.value.close()
            assert refused.value.code == 401, (method, path)


@pytest.mark.slow
def test_generated_requests_hold_what_the_document_says(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {KEY}", "--checks", "all", "--exclude-checks", NOT_CHECKED]
    command += ["--max-examples", "100", "--seed", "1", "--generation-deterministic"]
    command += ["--continue-on-failure", "--no-color", "--warnings", "off"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    made = re.search(r"(\d+) generated, \1 passed", ran.stdout)
    assert made is not None, ran.stdout
    assert int(made[1]) > 500
