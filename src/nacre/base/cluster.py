"""A Ray cluster for the length of a block: the one that `RAY_ADDRESS` names, or one of this machine's own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nacre.base.errors import InputError, NacreError

ADDRESS = "RAY_ADDRESS"


def quiet() -> None:
    """Keep Ray from reporting to its makers, and from telling of its own affairs; before it is loaded."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # our errors come back as results


@contextmanager
def cluster(ray: Any, cpus: int | None) -> Iterator[None]:
    """Be connected to the cluster; one that was started here is stopped again.

    Args:
        ray: the module.
        cpus: how many a cluster of this machine's own pretends to have; None: those that there are.

    Raises:
        InputError: no cluster answers.
        NacreError: none could be started.
    """
    ours = not ray.is_initialized()
    if ours:
        address = os.environ.get(ADDRESS)
        fresh = {"num_cpus": cpus, "include_dashboard": False}
        try:
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else fresh))
        except (ConnectionError, OSError, RuntimeError, TimeoutError, ValueError, ray.exceptions.RayError) as error:
            if not address:
                fix = "where the machine is too busy, try again; or do without Ray"
                raise NacreError(f"Ray does not start here: {error}", where="ray.init", fix=fix) from error
            what = f"no Ray cluster answers: {error}"
            raise InputError(what, where=ADDRESS, fix="start one with 'ray start', or unset it") from error
    try:
        yield
    finally:
        if ours:
            ray.shutdown()
