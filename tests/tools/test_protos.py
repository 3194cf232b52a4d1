"""The committed message classes are what their .proto files give."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_the_classes_are_those_of_the_protos() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "protos.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "up to date\n"), done.stderr
