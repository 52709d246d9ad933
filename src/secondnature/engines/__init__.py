"""The engines: which one runs a model is decided here."""

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

from secondnature.engines.base import Engine
from secondnature.engines.endpoint import FORM, HTTPOptions, is_endpoint
from secondnature.types import UserError

if TYPE_CHECKING:
    from secondnature.engines.models import ModelFiles

INSTALL = {"transformers": "secondnature[local]", "openvino": "secondnature[local,openvino]"}


def open_engine(
    model: str,
    kind: str,
    dtype: str,
    device: str,
    http: HTTPOptions | None = None,
    say: Callable[[str], None] | None = None,
) -> Engine:
    """An engine for `model`; `kind` "auto" takes OpenVINO on a CPU where it is installed and knows the model.

    A model that is named by an address is asked there, in the ways that `http` says. `say` is told where the model is fetched
    or converted first; standard error unless given.

    Raises UserError where there is no such model, or what it needs is not installed.
    """
    if kind == "fake":
        from secondnature.engines.fake import FakeEngine

        return FakeEngine(model)
    if is_endpoint(model) != (kind == "http") and (kind != "auto"):
        raise UserError(f"engine: {kind} runs no {model!r}: a model at an endpoint is named as {FORM}, with kind: http")
    if is_endpoint(model):
        try:
            from secondnature.engines.http import HTTPEngine
        except ModuleNotFoundError as error:
            raise UserError(f"a model at an endpoint needs {error.name}: pip install 'secondnature[http]'") from None
        from secondnature.engines.models import to_stderr

        return HTTPEngine(model, http, say or to_stderr)
    try:
        from secondnature.engines.models import locate, to_stderr

        say = say or to_stderr
        from secondnature.engines.transformers import usable_device

        on_cpu = usable_device(device) == "cpu"  # first: a model may be long to fetch
        files = locate(model, say=say)
        if kind == "auto":
            kind = "openvino" if on_cpu and dtype != "float16" and _openvino_knows(files) else "transformers"
        if kind == "openvino":
            from secondnature.engines.openvino import OpenVINOEngine

            if device not in ("auto", "cpu"):
                raise UserError(f"engine: openvino runs on the CPU, not on {device}")
            return OpenVINOEngine(files, dtype=dtype, say=say)
        from secondnature.engines.transformers import TransformersEngine

        return TransformersEngine(files, dtype=dtype, device=device)
    except ModuleNotFoundError as error:
        extra = INSTALL["openvino" if kind == "openvino" else "transformers"]
        raise UserError(f"running a model in process needs {error.name}: pip install '{extra}'") from None


def _openvino_knows(files: "ModelFiles") -> bool:
    if importlib.util.find_spec("openvino_genai") is None:
        return False
    from secondnature.engines.openvino_export import unknown

    return unknown(files) is None
