"""A round of which the server learns the sum alone: Flower's SecAgg+ (Bell et al. 2020, eprint 2020/704).

Each pair of parties adds and takes away the same random numbers, so that they vanish in the sum; shares of the seeds
let the others take away the masks of one that is gone. All parties weigh the same, because a weight would be one more
number that the server learns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.supercore.differential_privacy import add_gaussian_noise_inplace, compute_stdv

from nacre.records.federated import Federating
from nacre.train.federated.app import ROUND
from nacre.train.federated.grid import RUN_ID, NacreGrid, fresh_context
from nacre.train.federated.tensors import Arrays

RANGE = 8.0  # numbers of an adapter beyond it would be cut off; they are far smaller
SHARES_NEEDED = 0.6  # of the parties, who together can unmask one that is gone


class _Mean(FedAvg):
    """Flower's mean, which remembers how many answers it was made of."""

    counted = 0

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """See `FedAvg.aggregate_fit`; the workflow has put the unmasked mean into every result."""
        self.counted = len(results)
        return super().aggregate_fit(server_round, results, failures)


def masked_mean(
    how: Federating, grid: NacreGrid, nodes: Sequence[int], arrays: Arrays, number: int, timeout_s: float
) -> tuple[Arrays | None, int]:
    """The mean of the parties' adapters, with noise where it was asked for, and of how many it is.

    None where so many were lost on the way that it cannot be unmasked.
    """
    names = sorted(arrays)
    mean = _Mean(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=len(nodes),
        min_available_clients=len(nodes),
        on_fit_config_fn=lambda _: {ROUND: number},
    )
    manager = SimpleClientManager()
    for node in nodes:
        manager.register(GridClientProxy(node_id=node, grid=grid, run_id=RUN_ID))
    context = LegacyContext(fresh_context(0), ServerConfig(num_rounds=1), mean, manager)
    first = ndarrays_to_parameters([arrays[name] for name in names])
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(first, keep_input=True)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: number})
    SecAggPlusWorkflow(1.0, SHARES_NEEDED, max_weight=1.0, clipping_range=RANGE, timeout=timeout_s)(grid, context)
    if not mean.counted:
        return None, 0
    record: ArrayRecord = context.state.array_records[MAIN_PARAMS_RECORD]
    found = [
        np.array(one, np.float32) for one in parameters_to_ndarrays(compat.arrayrecord_to_parameters(record, True))
    ]
    if how.noise is not None and how.clip is not None:
        np.random.seed()  # the masks were drawn from the same generator, with seeds that others know
        add_gaussian_noise_inplace(found, compute_stdv(how.noise, how.clip, mean.counted))
    shaped = {name: one.reshape(arrays[name].shape) for name, one in zip(names, found, strict=True)}
    return {name: shaped[name] for name in arrays}, mean.counted
