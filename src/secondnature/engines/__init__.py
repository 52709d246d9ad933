"""The registry of engines, and which of them runs a model. A new engine is a file here and an entry in ENGINES."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from secondnature.engines.base import Engine
from secondnature.engines.endpoint import FORM, HTTPOptions, is_endpoint
from secondnature.types import UserError, nearest


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is opened with: a recipe's `model` and `engine`; `say` gets notices for the user."""

    model: str
    dtype: str = "auto"
    device: str = "auto"
    http: HTTPOptions = field(default_factory=HTTPOptions)
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)


def _openvino(options: EngineOptions) -> Engine:
    from secondnature.engines.loading import usable_device
    from secondnature.engines.models import locate
    from secondnature.engines.openvino import OpenVINOEngine

    usable_device(options.device)  # first: a model may take long to fetch
    if options.device not in ("auto", "cpu"):
        raise UserError(f"engine: openvino runs on the CPU, not on {options.device}")
    return OpenVINOEngine(locate(options.model, say=options.say), dtype=options.dtype, say=options.say)


def _transformers(options: EngineOptions) -> Engine:
    from secondnature.engines.loading import usable_device
    from secondnature.engines.models import locate
    from secondnature.engines.transformers import TransformersEngine

    usable_device(options.device)  # first: a model may take long to fetch
    files = locate(options.model, say=options.say)
    return TransformersEngine(files, dtype=options.dtype, device=options.device)


def _http(options: EngineOptions) -> Engine:
    from secondnature.engines.http import HTTPEngine

    return HTTPEngine(options.model, options.http, options.say)


def _fake(options: EngineOptions) -> Engine:
    from secondnature.engines.fake import FakeEngine

    return FakeEngine(options.model)


@dataclass(frozen=True, slots=True)
class EngineKind:
    """How an engine is opened; the package's extra that installs its libraries, their modules, and what they are for.

    One for tests only is `hidden`: no help, message, schema or documentation names it. It has no weights to train.
    """

    open: Callable[[EngineOptions], Engine]
    extra: str = ""
    modules: tuple[str, ...] = ()
    purpose: str = ""
    hidden: bool = False


ENGINES = {
    "transformers": EngineKind(
        _transformers,
        "local",
        ("torch", "transformers", "trl", "peft", "datasets"),
        "models in this process, and training",
    ),
    "openvino": EngineKind(_openvino, "openvino", ("openvino_genai",), "faster sampling on a CPU"),
    "http": EngineKind(_http, "http", ("aiohttp",), "models at an OpenAI-compatible server"),
    "fake": EngineKind(_fake, hidden=True),
}
KINDS = ("auto", *(name for name, kind in ENGINES.items() if not kind.hidden))  # of a recipe


def check_kind(kind: str) -> str:
    """The kind. Raises ValueError where there is no such engine."""
    if kind not in ("auto", *ENGINES):
        raise ValueError(f"one of {', '.join(KINDS)}{nearest(kind, KINDS)}")
    return kind


def has_weights(kind: str) -> bool:
    """Whether a model that this engine runs can be trained."""
    return kind == "auto" or not ENGINES[kind].hidden


def open_engine(
    model: str,
    kind: str = "auto",
    dtype: str = "auto",
    device: str = "auto",
    http: HTTPOptions | None = None,
    say: Callable[[str], None] | None = None,
) -> Engine:
    """An engine for `model`; `kind` "auto" takes OpenVINO on a CPU where it is installed and knows the model.

    A model that is named by an address is served there, and used as `http` says. `say` gets a line where the model is fetched
    or converted first; it goes to standard error unless given.

    Raises UserError where there is no such model, or what it needs is not installed.
    """
    if is_endpoint(model) != (kind == "http") and kind not in ("auto", "fake"):
        raise UserError(f"engine: {kind} runs no {model!r}: a model at an endpoint is named as {FORM}, with kind: http")
    options = EngineOptions(model, dtype, device, http or HTTPOptions(), *([say] if say else []))
    try:
        if kind == "auto":
            kind = "http" if is_endpoint(model) else "transformers"
            if kind == "transformers" and _openvino_fits(options):
                kind = "openvino"
        return ENGINES[kind].open(options)
    except ModuleNotFoundError as error:
        what = "a model at an endpoint" if kind == "http" else "running a model in process"
        extras = {"http": "http", "transformers": "local"}.get(kind, f"local,{ENGINES[kind].extra}")
        raise UserError(f"{what} needs {error.name}: pip install 'secondnature[{extras}]'") from None


def _openvino_fits(options: EngineOptions) -> bool:
    """Whether "auto" takes OpenVINO: it is installed, this machine has no GPU to use, and it knows the architecture."""
    from secondnature.engines.loading import usable_device
    from secondnature.engines.models import locate

    if usable_device(options.device) != "cpu" or options.dtype == "float16":
        return False
    if importlib.util.find_spec("openvino_genai") is None:
        return False
    from secondnature.engines.openvino_export import unsupported

    return unsupported(locate(options.model, say=options.say)) is None
