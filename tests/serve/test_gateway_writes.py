"""Writes of one turn of the event loop go out together, in order, and none is lost."""

import asyncio
from collections.abc import Callable

from nacre.serve.gateway.writes import Together


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.seen: list[bytes | str] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]  # bytes alone are sent here
        self.seen.append(data)

    def close(self) -> None:
        self.seen.append("closed")

    def abort(self) -> None:
        self.seen.append("aborted")

    def is_closing(self) -> bool:
        return "closed" in self.seen

    def get_write_buffer_size(self) -> int:
        return 5

    def pause_reading(self) -> None:
        self.seen.append("paused")

    def resume_reading(self) -> None:
        self.seen.append("resumed")


def _with(scenario: Callable[[Wire, Together], None], then: list[bytes | str]) -> None:
    async def main() -> None:
        wire = Wire()
        scenario(wire, Together(wire, asyncio.get_running_loop()))
        await asyncio.sleep(0)
        assert wire.seen == then

    asyncio.run(main())


def test_what_is_written_in_one_turn_is_one_write() -> None:
    def scenario(wire: Wire, together: Together) -> None:
        for part in (b"head", b"body", b"end"):
            together.write(part)
        assert wire.seen == []
        assert together.get_write_buffer_size() == 11 + 5

    _with(scenario, [b"headbodyend"])


def test_closing_writes_first_and_aborting_does_not() -> None:
    def closing(wire: Wire, together: Together) -> None:
        together.write(b"last words")
        together.close()
        assert together.is_closing()

    def aborting(wire: Wire, together: Together) -> None:
        together.write(b"last words")
        together.abort()

    _with(closing, [b"last words", "closed"])
    _with(aborting, ["aborted"])


def test_much_is_not_held_back() -> None:
    def scenario(wire: Wire, together: Together) -> None:
        together.write(b"x" * 70_000)
        assert wire.seen == [b"x" * 70_000]
        together.write(b"y")

    _with(scenario, [b"x" * 70_000, b"y"])


def test_the_rest_is_the_transports_own() -> None:
    def scenario(wire: Wire, together: Together) -> None:
        together.pause_reading()
        together.resume_reading()
        assert together.get_extra_info("peername") == ("127.0.0.1", 1)

    _with(scenario, ["paused", "resumed"])
