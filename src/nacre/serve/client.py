"""A conversation with a running server, as a person at a terminal has it: streamed, with feedback on what was said."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from nacre.base.errors import InputError, NacreError
from nacre.base.redirects import NoRedirect

_TIMEOUT_S = 600.0  # between two pieces; a server says something every fifteen seconds
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Said:
    """One answer.

    Attributes:
        id: what feedback on it names.
        version: the version that gave it.
        finish: OpenAI's finish reason.
        usage: tokens, as the server counted them.
    """

    id: str
    model: str
    version: str
    text: str
    finish: str
    usage: Mapping[str, Any] = field(default_factory=dict)


class Talk:
    """Asks one server.

    Args:
        url: where it is reached, with or without ``/v1``.
        key: its API key; empty where it needs none.

    Raises:
        InputError: the URL is none, or the key cannot be one.
    """

    def __init__(self, url: str, key: str = "") -> None:
        host = _host(url)
        if not key.isascii() or not key.isprintable():
            raise InputError("an API key has printable ASCII characters only", where="--api-key", fix="copy it again")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        handlers: list[Any] = [NoRedirect()]
        if host in _LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def models(self) -> list[str]:
        """The names the server answers to, the plain one first.

        Raises:
            NacreError: as `ask` does.
        """
        with self._open("/v1/models") as reply:
            try:
                return [str(one["id"]) for one in json.load(reply)["data"]]
            except (ValueError, LookupError, TypeError):
                raise self._no_server() from None

    def version(self, model: str) -> str:
        """The version behind a name, where the server tells it; else nothing. Raises as `ask` does."""
        with self._open(f"/v1/models/{quote(model, safe='')}") as reply:
            try:
                return str(json.load(reply).get("version") or "")
            except (ValueError, AttributeError):
                raise self._no_server() from None

    def troubles(self) -> dict[str, str]:
        """Why versions of slots are not answered with, by slot, where the server tells it. Raises as `ask` does."""
        with self._open("/health") as reply:
            try:
                return {str(slot): str(why) for slot, why in (json.load(reply).get("troubles") or {}).items()}
            except (ValueError, AttributeError):
                raise self._no_server() from None

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, str]],
        show: Callable[[str], None] = lambda text: None,
        **options: Any,
    ) -> Said:
        """Ask, and give each piece of the answer to `show` as it comes.

        Args:
            options: further keys of the request, e.g. ``temperature``.

        Raises:
            InputError: the server refuses the request: a wrong key, an unknown model, a conversation too long.
            NacreError: no server, none that speaks OpenAI's API, or one that broke off.
        """
        body = {"model": model, "messages": list(messages), "stream": True} | options
        body["stream_options"] = {"include_usage": True}
        said: dict[str, Any] = {"id": "", "model": model, "finish": "", "usage": {}}
        texts: list[str] = []
        with self._open("/v1/chat/completions", body) as reply:
            version = reply.headers.get("x-nacre-version", "")
            try:
                for event in _events(reply):
                    text = self._read(event, said)
                    if text:
                        texts.append(text)
                        show(text)
            except (OSError, http.client.HTTPException):  # the connection broke: told below
                said["finish"] = ""
        if not said["finish"]:
            raise NacreError("the answer was broken off", where=self.url, fix="ask again; see the server's log")
        return Said(version=version, text="".join(texts), **said)

    def feedback(self, response_id: str, **opinion: Any) -> None:
        """Say something about an answer: `stars`, `thumb`, `comment`, `correction`.

        Raises:
            InputError: the server does not take it. NacreError: as `ask` does.
        """
        with self._open("/v1/feedback", {"response_id": response_id} | opinion) as reply:
            reply.read()

    def _read(self, event: Any, said: dict[str, Any]) -> str:
        """Note what an event tells beside text; returns the text."""
        if not isinstance(event, dict):
            raise self._no_server()
        if "error" in event:
            raise NacreError(_message(event), where=self.url, fix="ask again")
        said["id"] = event.get("id") or said["id"]
        said["model"] = event.get("model") or said["model"]
        said["usage"] = event.get("usage") or said["usage"]
        text = ""
        for choice in event.get("choices") or ():
            said["finish"] = choice.get("finish_reason") or said["finish"]
            text += (choice.get("delta") or {}).get("content") or ""
        return text

    def _open(self, path: str, body: Mapping[str, Any] | None = None) -> http.client.HTTPResponse:
        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            reply: http.client.HTTPResponse = self._opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: the proxy's address is none
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            fix = "start one with `nacre serve`, or leave --url out to start the workspace's champion here"
            raise NacreError(f"no server answers: {reason}", where=self.url, fix=fix) from None
        return reply

    def _refused(self, error: urllib.error.HTTPError) -> NacreError:
        try:
            said = _message(json.loads(error.read()))
        except (ValueError, OSError, http.client.HTTPException):
            return self._no_server()
        if error.code == 401:
            return InputError(said, where=self.url, fix="give the key with --api-key, or in NACRE_API_KEY")
        if 400 <= error.code < 500 and error.code not in (408, 429):
            return InputError(said, where=self.url, fix="change what is asked")
        return NacreError(said, where=self.url, fix="try again later")

    def _no_server(self) -> NacreError:
        return InputError(
            "what answers there does not speak OpenAI's API", where=self.url, fix="check the address and the port"
        )


def _host(url: str) -> str:
    """The host of a web address.

    Raises:
        InputError: it is none, or one that cannot be asked.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port  # a port that is none is told here
        host.encode("idna")  # as the network does it
        parts.path.encode("ascii")
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise InputError("this is no web address", where=url, fix="write it like http://127.0.0.1:8000")
    return host


def _events(reply: http.client.HTTPResponse) -> Iterator[Any]:
    """The JSON of each event up to ``[DONE]``; comments and broken ones are left out, the latter as None."""
    for line in reply:
        name, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        if name != "data":
            continue
        if value.strip() == "[DONE]":
            return
        try:
            yield json.loads(value)
        except ValueError:
            yield None


def _message(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message") if isinstance(error, dict) else error or "the server refuses without a reason")
