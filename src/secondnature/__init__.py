"""Second Nature: distil a model's slow, deliberate answers into fast ones. `import secondnature as sn; sn.distill(...)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secondnature.recipe import Recipe
    from secondnature.recipe_file import load_recipe
    from secondnature.stages import distill, look
    from secondnature.techniques.turns import conclude
    from secondnature.types import Ask, Example, Message, UserError
    from secondnature.use import load

__all__ = ["Ask", "Example", "Message", "Recipe", "UserError", "conclude", "distill", "load", "load_recipe", "look"]
__version__ = "0.1.0"

_HOMES = {
    "conclude": "techniques.turns",
    "distill": "stages",
    "load": "use",
    "load_recipe": "recipe_file",
    "look": "stages",
    "Recipe": "recipe",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import secondnature` alone must stay fast."""
    if name not in __all__:
        raise AttributeError(f"module 'secondnature' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"secondnature.{_HOMES.get(name, 'types')}"), name)
