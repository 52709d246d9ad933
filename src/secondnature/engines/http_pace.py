"""How fast to ask an endpoint: how many requests at once, and how long to wait before trying again."""

import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

FIRST_WAIT = 0.5  # seconds; doubles with every try
LONGEST_BACKOFF = 60.0
GROWTH = 4  # times the first limit that the limit may become
CUT = 0.85  # what is left of the limit when the server is overloaded
SLOW = 2.0  # times the lowest latency at which more at once would only queue at the server
CAUTION = 0.1  # of the usual growth, near the limit at which the server last refused


def backoff(tries: int) -> float:
    """Seconds to wait after the `tries`-th failure: exponential, with full jitter."""
    return random.uniform(0, min(LONGEST_BACKOFF, FIRST_WAIT * 2 ** (tries - 1)))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or as an HTTP date; None without a readable one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


class AdaptiveConcurrency:
    """How many replies may be in flight: additive increase, multiplicative decrease.

    Grows by one with every `limit` replies while the latency stays near its lowest, and falls when the server says that
    it is overloaded or does not answer in time, once for all requests that were sent before it fell. Near the limit at
    which that last happened it grows slowly, so that a server with a fixed number of slots stays nearly full.
    """

    def __init__(self, first: int):
        self.limit = float(first)
        self.first = first
        self.most = GROWTH * first
        self._edge = float(self.most)
        self._cut_at = float("-inf")
        self._replies = 0
        self._latency = 0.0
        self._lowest = float("inf")

    def overloaded(self, sent: float, now: float) -> None:
        """A request sent at `sent` found the server overloaded, or no answer."""
        if sent >= self._cut_at:
            self._edge, self._cut_at = self.limit, now
            self.limit = max(1.0, self.limit * CUT)

    def succeeded(self, replies: int, seconds: float, *, full: bool) -> None:
        """A request brought `replies` after `seconds`; `full` where all of the limit was in use."""
        self._replies += replies
        share = replies / max(self.limit, replies)
        self._latency += (seconds - self._latency) * max(share, replies / self._replies)
        if self._replies >= 2 * self.limit:  # before, the fast ones are over-represented
            self._lowest = min(self._lowest, self._latency)
        if self._latency > SLOW * self._lowest:
            if self.limit > self.first:
                self.limit = max(float(self.first), self.limit - share)
        elif full:
            near = 0.95 * self._edge <= self.limit <= 1.25 * self._edge
            self.limit = min(float(self.most), self.limit + share * (CAUTION if near else 1.0))
