"""Consistency under perturbation: the prompt is changed so that the right answer must not change, and the same is demanded.

(Yu et al., 2024, arXiv 2407.06023, on unsupervised curation.) A perturbation is an async function `(example, ask)` that gives
a `Variant`, or None where this prompt cannot be changed so. Adding one is a file beside this one and a line in PERTURBATIONS;
one's own is "file.py:function".
"""

from secondnature.types import UserError, nearest
from secondnature.user_code import UserFunction, is_user_code
from secondnature.verify.perturb.rename import rename
from secondnature.verify.perturb.reorder import reorder
from secondnature.verify.perturb.reword import reword
from secondnature.verify.perturb.shuffle import shuffle
from secondnature.verify.perturb.swap import swap
from secondnature.verify.perturb.variant import Perturb, Variant

__all__ = ["PERTURBATIONS", "Perturb", "Variant", "load_perturbation"]

PERTURBATIONS: dict[str, Perturb] = {
    "swap": swap,
    "shuffle": shuffle,
    "rename": rename,
    "reorder": reorder,
    "reword": reword,
}


def load_perturbation(name: str, recorded: str | None = None, *, key: str = "verify.perturb") -> Perturb:
    """The perturbation `name`; one's own is an UserFunction, whose file is not run here.

    Raises UserError for an unknown one, with the `key` of the recipe that names it.
    """
    if is_user_code(name):
        return UserFunction(key, name, {}, recorded)
    if name not in PERTURBATIONS:
        known = ", ".join(PERTURBATIONS)
        raise UserError(f"{key}: there is no {name!r}{nearest(name, PERTURBATIONS)}; there are {known}")
    return PERTURBATIONS[name]
