"""Who asks: the key of a request, what it opens, and how much it may still ask for."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nacre.records.key import Limits, Scope
from nacre.registry.keys import Used
from nacre.serve.gateway.errors import ApiError

_MINUTE_S = 60.0

OPEN: frozenset[Scope] = frozenset({"infer", "feedback"})  # what the configuration's keys open, and no key on loopback


class Bucket:
    """At most `most` a minute, evenly refilled. What is taken afterwards (tokens) may leave it below nought."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.most, self._clock = most, clock
        self._level, self._when = float(most), clock()

    def level(self) -> float:
        """How much is left now."""
        present = self._clock()
        self._level = min(self.most, self._level + (present - self._when) * self.most / _MINUTE_S)
        self._when = present
        return self._level

    def take(self, amount: float) -> None:
        """Take so much, whatever is left."""
        self._level = self.level() - amount

    def wait_s(self, until: float) -> float:
        """Seconds until so much is there."""
        return max(0.0, (until - self.level()) * _MINUTE_S / self.most)


class Meter:
    """What one key asks for, and whether it may. Counts of this process; the ledger adds up those of all.

    Attributes:
        running: its requests under way.
        spent: tokens that all gateways have charged it with in the period of its budget, as the ledger last said.
        fresh: what this process has counted and the ledger has not been told.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.running = 0
        self.spent = 0
        self.fresh = Used()
        self.limits = Limits()
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """From now on these limits; buckets whose size did not change keep their level."""
        if limits.requests != self.limits.requests:
            self._requests = Bucket(limits.requests, self._clock) if limits.requests else None
        if limits.tokens != self.limits.tokens:
            self._tokens = Bucket(limits.tokens, self._clock) if limits.tokens else None
        self.limits = limits

    @property
    def limited(self) -> bool:
        """Whether there is anything to tell about what is left."""
        return self._requests is not None or self._tokens is not None

    def admit(self) -> None:
        """Count a request in, or refuse it.

        Raises:
            ApiError: 429 with the seconds to wait.
        """
        limits = self.limits
        if limits.budget is not None and self.spent + self.fresh.tokens >= limits.budget:
            raise _spent(limits)
        if limits.concurrency is not None and self.running >= limits.concurrency:
            raise self._too_many(f"{limits.concurrency} requests of this key run already", 1.0)
        if self._tokens is not None and self._tokens.level() <= 0:
            what = f"this key may use {limits.tokens} tokens a minute"
            raise self._too_many(what, self._tokens.wait_s(1))
        if self._requests is not None:
            if self._requests.level() < 1:
                what = f"this key may make {limits.requests} requests a minute"
                raise self._too_many(what, self._requests.wait_s(1))
            self._requests.take(1)
        self.running += 1
        self.fresh = Used(self.fresh.requests + 1, self.fresh.tokens)

    def charge(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        if self._tokens is not None:
            self._tokens.take(tokens)
        self.fresh = Used(self.fresh.requests, self.fresh.tokens + tokens)

    def told(self) -> Used:
        """What the ledger is being told; it counts as spent from now on."""
        fresh, self.fresh = self.fresh, Used()
        self.spent += fresh.tokens
        return fresh

    def take_back(self, used: Used) -> None:
        """The ledger was not told."""
        self.fresh = Used(self.fresh.requests + used.requests, self.fresh.tokens + used.tokens)
        self.spent -= used.tokens

    def release(self) -> None:
        """An admitted request has ended."""
        self.running -= 1

    def headers(self) -> dict[str, str]:
        """What is left, in OpenAI's header names."""
        told: dict[str, str] = {}
        for name, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None:
                told[f"x-ratelimit-limit-{name}"] = str(bucket.most)
                told[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level())))
                told[f"x-ratelimit-reset-{name}"] = f"{bucket.wait_s(bucket.most):.1f}s"
        return told

    def _too_many(self, what: str, wait_s: float) -> ApiError:
        headers = self.headers() | {"retry-after": str(max(1, math.ceil(wait_s)))}
        return ApiError(429, f"{what}: try again later", code="rate_limit_exceeded", headers=headers)


@dataclass(frozen=True)
class Caller:
    """Who made a request.

    Attributes:
        id: the key's public part; empty where no key is asked for.
        scopes: what it opens.
        meter: counts what it asks for.
    """

    id: str
    scopes: frozenset[Scope] = OPEN
    meter: Meter = field(default_factory=lambda: Meter(Limits()), compare=False)


def _spent(limits: Limits) -> ApiError:
    per = {"day": "today", "month": "this month", "total": "in all"}[limits.budget_per]
    return ApiError(
        429,
        f"this key's budget of {limits.budget} tokens {per} is spent",
        code="insufficient_quota",
        headers={"x-should-retry": "false"},
    )
