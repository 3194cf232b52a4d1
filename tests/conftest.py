"""What all tests share: no network beyond this machine, one thread, and a toy model for training."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from picture_kit import Seer
    from toy_kit import Toy

# Read by torch when it is first imported, and by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.option.allow_hosts = config.option.allow_hosts or "127.0.0.1,::1,localhost"
    config.option.allow_unix_socket = True


@pytest.fixture(autouse=True)
def transformers_whole() -> Iterator[None]:
    """Tells whose fault it is where transformers is left as two threads leave it that build models side by side."""
    yield
    if "transformers.modeling_utils" in sys.modules:
        import torch
        from transformers import PreTrainedModel

        from nacre.model.building import BUILDING

        with BUILDING:  # whatever this test has left behind may still be building
            assert PreTrainedModel.tie_weights.__name__ == "tie_weights", "heads are not tied any more"
            assert PreTrainedModel.init_weights.__name__ == "init_weights", "new weights are left as they are"
            assert torch.get_default_dtype() == torch.float32


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> "Toy":
    """A tiny base model that knows one task, and rows of three. Imported here: most tests need no torch."""
    from toy_kit import make_toy

    return make_toy(tmp_path_factory.mktemp("toy") / "base")


@pytest.fixture(scope="session")
def seer(tmp_path_factory: pytest.TempPathFactory) -> "Seer":
    """A tiny base model that sees colours and shapes, see picture_kit."""
    from picture_kit import make_seer

    return make_seer(tmp_path_factory.mktemp("seer") / "base")
