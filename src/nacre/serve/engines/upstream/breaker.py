"""When a server is left alone, and how many failures may be tried once more."""

import time

_MOST_SAVED = 100.0  # retries that a quiet time may save up
_FIRST_SAVED = 10.0  # so that the first requests after the start may be tried again


class Breaker:
    """Closed while requests succeed; open, for a while, after several failures in a row; then one request probes.

    Args:
        failures: that many in a row open it.
        open_s: seconds until a request may probe.
    """

    def __init__(self, failures: int, open_s: float) -> None:
        self._failures, self._open_s = failures, open_s
        self._in_a_row = 0
        self._until_s = 0.0  # monotonic; 0 while closed
        self._probing = False

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        if not self._until_s:
            return "closed"
        return "open" if time.monotonic() < self._until_s else "half-open"

    def admits(self) -> bool:
        """Whether a request may be sent now."""
        return not self._until_s or (not self._probing and time.monotonic() >= self._until_s)

    def sent(self) -> None:
        """A request that was admitted is on its way."""
        self._probing = bool(self._until_s)

    def succeeded(self) -> None:
        """It was answered."""
        self._in_a_row, self._until_s, self._probing = 0, 0.0, False

    def failed(self) -> None:
        """It was not."""
        self._in_a_row += 1
        if self._probing or self._in_a_row >= self._failures:
            self._until_s = time.monotonic() + self._open_s
        self._probing = False

    def gave_up(self) -> None:
        """The client went away before either could be known."""
        self._probing = False


class Budget:
    """Retries that may be made: each request earns a share of one.

    Args:
        share: of a retry that each request earns; 0 allows none.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = _FIRST_SAVED if share else 0.0

    def earn(self) -> None:
        """A request has come."""
        if self._saved < _MOST_SAVED:
            self._saved += self._share

    def spend(self) -> bool:
        """Take one retry; False when none is left."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
