"""How a model at an OpenAI-compatible endpoint is named and paid for: plain data, known without a connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from secondnature.types import UserError

FORM = "http://host:8000/v1#served-name"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is, and which of its models is meant."""

    url: str
    model: str


def is_endpoint(model: str) -> bool:
    return model.lower().startswith(("http://", "https://"))


def parse_endpoint(model: str) -> Endpoint:
    """The parts of `http://host:8000/v1#served-name`; the name may be empty.

    Raises UserError, which never repeats the address since a password may be in it.
    """
    refusal = UserError(f"model: an endpoint is named as {FORM}, and this is no such address")
    try:
        parts = urlsplit(model)
        host, _ = parts.hostname, parts.port  # which raises where it is no number
    except ValueError:
        raise refusal from None
    if not host or "#" in parts.fragment:
        raise refusal
    if "@" in parts.netloc or parts.query:
        raise UserError(
            "model: an endpoint's address must hold no user, password or query, since it is written into the run's "
            "files: put the key into the environment variable OPENAI_API_KEY, or name another with engine.api_key_env"
        )
    return Endpoint(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", parts.fragment)


@dataclass
class Budget:
    """Tokens spent, and how many of them, or how much money, may be. Prices are per million tokens."""

    max_tokens_total: int | None = None
    max_cost: float | None = None
    prices: tuple[float, float] = (0.0, 0.0)  # of the prompt's tokens, of the completion's
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def spend(self, prompt_tokens: int, completion_tokens: int) -> None:
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    @property
    def cost(self) -> float:
        return (self.prompt_tokens * self.prices[0] + self.completion_tokens * self.prices[1]) / 1e6

    def used_up(self) -> str | None:
        """What to tell the user once nothing more may be spent; None before."""
        tokens = self.prompt_tokens + self.completion_tokens
        if self.max_tokens_total is not None and tokens >= self.max_tokens_total:
            key, spent = "max_tokens_total", f"{tokens:,} of {self.max_tokens_total:,} tokens are spent"
        elif self.max_cost is not None and self.cost >= self.max_cost:
            key, spent = "max_cost", f"{self.cost:.4g} of {self.max_cost:.4g} is spent"
        else:
            return None
        return (
            f"the budget engine.{key} is used up ({spent}); everything paid for is stored: to go on, run the same command "
            f"with a higher engine.{key}"
        )


@dataclass(frozen=True)
class HTTPOptions:
    """How an endpoint is used: seconds a request may take, how often it is tried again, where the key is."""

    concurrency: int = 32
    timeout: float = 600.0
    max_retries: int = 8
    api_key_env: str = "OPENAI_API_KEY"
    budget: Budget = field(default_factory=Budget)
    send_key: bool = True

    def without_key(self) -> "HTTPOptions":
        """The same, but the key stays here."""
        return replace(self, send_key=False)


def api_key(variable: str, environment: Mapping[str, str]) -> str:
    """The key in the environment variable; empty where the default one is not set. Raises UserError without showing it."""
    key = environment.get(variable, "").strip()
    if not key and variable != HTTPOptions.api_key_env:
        raise UserError(f"engine.api_key_env: the environment variable {variable} is not set")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"the key in the environment variable {variable} has characters that no key has")
    return key
