"""Chat templates rendered within limits of time, memory and size: they come with the weights, from anywhere."""

import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

_log = logging.getLogger("nacre.serve")

_WORKER = Path(__file__).with_name("template_worker.py")
_MEMORY_BYTES = 512 * 1024 * 1024
_MOST_CHARACTERS = 16 * 1024 * 1024
_START_S = 30.0  # for the process itself, on a machine with much else to do
_THREADS = {"OMP_NUM_THREADS": "1"}


class Renderer:
    """Renders in another process, which is ended when it takes too long and begun anew for the next template.

    Args:
        seconds: how long one rendering may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def take_over(self, tokenizer: Any) -> None:
        """Let a tokenizer's own method render here; the arguments that nacre uses are the ones it knows."""

        def apply_chat_template(
            conversation: Sequence[Mapping[str, Any]],
            *,
            tools: Any = None,
            tokenize: bool = False,
            add_generation_prompt: bool = False,
        ) -> str:
            if tokenize:
                raise ValueError("the text is rendered here, not its tokens")
            template = tokenizer.get_chat_template(None, tools)
            variables = {
                **{name: _plain(value) for name, value in tokenizer.special_tokens_map.items()},
                "messages": [dict(message) for message in conversation],
                "tools": tools,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            }
            return self.render(template, variables)

        tokenizer.apply_chat_template = apply_chat_template

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """The text.

        Raises:
            TemplateError: the template refuses, or breaks a limit.
        """
        line = json.dumps({"template": template, "variables": variables}).encode() + b"\n"
        with self._lock:
            if self._closed:
                raise TemplateError("the engine has stopped")
            if self._process is None or self._process.poll() is not None:
                self._start()
            answer = self._asked(line, self._seconds)
        if answer is None:
            raise TemplateError(f"it does not end within {self._seconds:g} s, or takes too much memory")
        if "text" not in answer:
            raise TemplateError(answer.get("refused", "no reason given"))
        text: str = answer["text"]
        return text

    def close(self) -> None:
        """End the process; no other is begun."""
        with self._lock:
            self._closed = True
            self._end()

    def _start(self) -> None:
        command = [sys.executable, "-I", str(_WORKER), str(_MEMORY_BYTES), str(_MOST_CHARACTERS)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_THREADS,
            cwd="/",
            start_new_session=True,  # the terminal's ^C is for the server, which lets its answers end
        )
        # The start of the interpreter is not the template's time: it counts from the first answer on.
        self._asked(b'{"template": "", "variables": {}}\n', _START_S)

    def _asked(self, line: bytes, seconds: float) -> dict[str, Any] | None:
        """The worker's answer; None, and the worker ended, if none came in time."""
        process = self._process
        if process is None:
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        found: bytes | None = None
        try:
            os.set_blocking(process.stdin.fileno(), False)
            found = _exchanged(process.stdin.fileno(), process.stdout.fileno(), line, time.monotonic() + seconds)
        except OSError:  # it has died
            found = None
        try:
            if found is not None:
                return dict(json.loads(found))
        except ValueError:
            _log.warning("the process that renders chat templates said no JSON")
        self._end()
        return None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _closed(pipe)


def _exchanged(to: int, back: int, line: bytes, until_s: float) -> bytes | None:
    """Write a line and read one, both as the worker takes and gives them; None when time is up."""
    answer = bytearray()
    left = memoryview(line)
    pipes = select.poll()  # select knows no descriptor above 1023, which a server with many connections has
    pipes.register(back, select.POLLIN)
    pipes.register(to, select.POLLOUT)
    while not answer.endswith(b"\n"):
        ready = dict(pipes.poll(max(until_s - time.monotonic(), 0) * 1000))
        if not ready:
            return None
        if to in ready:
            left = left[os.write(to, left[:65536]) :]
            if not left:
                pipes.unregister(to)
        if back in ready:
            piece = os.read(back, 1 << 20)
            if not piece:
                return None
            answer += piece
    return bytes(answer)


def _closed(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError as error:  # what could not be written to a process that has been ended
        _log.debug("a pipe to the template process: %s", error)


def _plain(value: Any) -> Any:
    return str(value) if not isinstance(value, list) else [str(one) for one in value]
