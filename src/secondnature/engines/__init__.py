"""The engines: which one runs a model is decided here."""

from secondnature.engines.base import Engine


def open_engine(model: str, kind: str, dtype: str, device: str) -> Engine:
    """An engine for `model`. Raises UserError where there is no such model, or what it needs is not installed."""
    if kind == "fake":
        from secondnature.engines.fake import FakeEngine

        return FakeEngine(model)
    try:
        from secondnature.engines.models import locate
        from secondnature.engines.transformers import TransformersEngine
    except ModuleNotFoundError as error:
        from secondnature.types import UserError

        raise UserError(f"running a model in process needs {error.name}: pip install 'secondnature[local]'") from None
    return TransformersEngine(locate(model), dtype=dtype, device=device)
