"""Consistency under perturbation: the prompt is changed so that the right answer must not change, and the same is demanded.

(Yu et al., 2024, arXiv 2407.06023, on unsupervised curation.) A perturbation is an async function `(example, ask)` that gives
a `Variant`, or None where this prompt cannot be changed so. Adding one is a file beside this one and a line in PERTURBATIONS;
a user's own is "file.py:function".
"""

from secondnature.perturb.base import Perturbation, Variant, unchanged
from secondnature.perturb.order import shuffle, swap
from secondnature.perturb.reword import reword
from secondnature.types import lookup
from secondnature.user_code import UserFunction, is_user_code

__all__ = ["PERTURBATIONS", "Perturbation", "Variant", "load_perturbation", "unchanged"]

PERTURBATIONS: dict[str, Perturbation] = {"swap": swap, "shuffle": shuffle, "reword": reword}


def load_perturbation(name: str, recorded: str | None = None, *, key: str = "verify.perturb") -> Perturbation:
    """The perturbation `name`; a user's own is a UserFunction, whose file is not run here.

    Raises UserError for an unknown one, with the `key` of the recipe that names it.
    """
    if is_user_code(name):
        return UserFunction(key, name, {}, recorded)
    return lookup(PERTURBATIONS, name, key)
