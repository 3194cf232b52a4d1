"""Server-sent events, read strictly and with as little work per event as the format allows."""

from nacre.serve.engines import EngineError

DONE = b"[DONE]"


class Events:
    """Cuts a stream of bytes into the data of its events (WHATWG HTML, section 9.2).

    Lines may end in LF, CR or CRLF; comments and the fields `event`, `id` and `retry` are passed over. Events are cut
    as bytes, so that a character split over two network reads is whole again when it is decoded.

    Args:
        max_bytes: the longest event that is taken.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()  # the beginning of an event whose end has not arrived
        self._held_cr = False  # the last read ended in CR: an LF at the start of the next belongs to it

    def feed(self, data: bytes) -> list[bytes]:
        """The data of all events that end in `data`.

        Raises:
            EngineError: an event is longer than allowed.
        """
        if self._held_cr or b"\r" in data:
            data = self._lf(data)
        rest = self._rest
        if rest:
            searched = len(rest) - 1
            rest += data
            if rest.find(b"\n\n", searched) < 0:  # bytes that drip in cost no copy of what is there already
                return self._checked([])
            data = bytes(rest)
            rest.clear()
        whole, end, tail = data.rpartition(b"\n\n")
        rest += tail
        return self._checked([found for block in whole.split(b"\n\n") if (found := _data(block))] if end else [])

    @property
    def pending(self) -> bool:
        """Whether an event has begun and not ended."""
        return bool(self._rest.strip())

    def _lf(self, data: bytes) -> bytes:
        if self._held_cr and data[:1] == b"\n":
            data = data[1:]
        self._held_cr = data[-1:] == b"\r" or (self._held_cr and not data)
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _checked(self, events: list[bytes]) -> list[bytes]:
        if len(self._rest) > self._max_bytes or any(len(event) > self._max_bytes for event in events):
            raise EngineError(f"the upstream sent an event of more than {self._max_bytes} bytes")
        return events


def _data(block: bytes) -> bytes:
    """What the `data` lines of one event say; empty where it has none."""
    if block.startswith(b"data: ") and b"\n" not in block:  # what nearly all of them look like
        return block[6:]
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
