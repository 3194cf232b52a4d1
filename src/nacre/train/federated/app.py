"""A party as Flower's client app: a message with the adapter in, a message with what was learned out.

What goes out is tensors, the number of rows and their mean loss; where answers are masked, masked tensors alone. An
error is sent without its words, which may be a row's.
"""

import io
import math
from collections.abc import Callable
from tokenize import TokenError
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.compat.common import recorddict_compat as compat
from flwr.supercore.differential_privacy import compute_clip_model_update
from numpy.lib import format as npy

from nacre.train.federated.party import Party
from nacre.train.federated.screen import Answer
from nacre.train.federated.tensors import Arrays, length

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"  # records of a message
ROUND, ROWS, LOSS = "round", "num-examples", "loss"  # what stands in them


class PartyApp:
    """Answers the server's messages. `party` learns; `tell` is called with a sentence about each round.

    Where the terms ask for masked answers, a message that asks for others is refused: the server cannot change its
    mind.
    """

    def __init__(self, party: Party, tell: Callable[[str], None] = lambda _: None) -> None:
        self.party, self.tell = party, tell
        self._app = ClientApp(mods=[secaggplus_mod] if party.terms.secure else [])
        self._app.train()(self._masked if party.terms.secure else self._plain)

    def __call__(self, message: Message, context: Context) -> Message:
        """The reply to a message; `context` is what the app keeps from one message to the next.

        Raises:
            NacreError: the training cannot be done.
            ValueError: the message asks for something else.
        """
        if self.party.terms.secure and RECORD_KEY_CONFIGS not in message.content.config_records:
            raise ValueError("the server asks for an answer that is not masked")
        reply: Message = self._app(message, context)
        return reply

    def _plain(self, message: Message, _: Context) -> Message:
        """Tensors by name, rows and loss."""
        number = int(message.content[CONFIG][ROUND])
        arrays = {name: array.numpy() for name, array in message.content[ARRAYS].items()}
        answer = self._learn(number, arrays)
        metrics: dict[str, Any] = {ROWS: answer.rows}
        if answer.loss is not None and np.isfinite(answer.loss):
            metrics[LOSS] = float(answer.loss)
        return Message(RecordDict({ARRAYS: record_of(answer.arrays), METRICS: MetricRecord(metrics)}), reply_to=message)

    def _masked(self, message: Message, _: Context) -> Message:
        """Tensors in the order of their names, which the modifier around this masks; all parties weigh the same."""
        asked = compat.recorddict_to_fitins(message.content, keep_input=True)
        names = sorted(self.party.shape)
        arrays = dict(zip(names, parameters_to_ndarrays(asked.parameters), strict=True))
        answer = self._learn(int(asked.config[ROUND]), arrays)
        learned = ndarrays_to_parameters([answer.arrays[name] for name in names])
        result = FitRes(Status(Code.OK, ""), learned, num_examples=1, metrics={})
        return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)

    def _learn(self, number: int, arrays: Arrays) -> Answer:
        """Train, and shorten an update that is longer than agreed."""
        answer = self.party.learn(number, arrays)
        clip = self.party.terms.clip
        if clip is not None and length(answer.arrays, arrays) > clip:
            names = sorted(arrays)
            learned = [np.array(answer.arrays[name]) for name in names]
            compute_clip_model_update(learned, [arrays[name] for name in names], clip)
            answer = Answer(answer.node, dict(zip(names, learned, strict=True)), answer.rows, answer.loss)
        self.tell(f"round {number}: {answer.rows} rows, loss {answer.loss:.4g}")
        return answer


def record_of(arrays: Any) -> ArrayRecord:
    """Named arrays as Flower sends them."""
    return ArrayRecord({name: Array(arrays[name]) for name in arrays})


def arrays_of(record: object) -> dict[str, Any]:
    """The inverse of `record_of`, for what a stranger sent: no size is believed that the bytes do not bear out.

    Raises:
        ValueError: it is no record of NumPy arrays.
    """
    if not isinstance(record, ArrayRecord):
        raise ValueError("no record of arrays")
    return {name: _array(array) for name, array in record.items()}


def _array(array: Array) -> Any:
    stream = io.BytesIO(array.data)
    try:
        read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = read(stream)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError, TokenError) as error:
        raise ValueError(f"no array: {type(error).__name__}") from None
    rest = array.data[stream.tell() :]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError("an array of another size than it says")
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if by_column else "C")
