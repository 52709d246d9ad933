"""Parts of a report as plain data, for the model card."""

import math
from collections.abc import Mapping
from typing import Any, cast

from secondnature.report.model import Report
from secondnature.systems import SystemId

Json = Mapping[str, Any]

MAIN = ("system1", "system2", "distilled")


def part(parent: object, name: str) -> Json:
    """The object `name` of `parent`, empty where there is none."""
    value = cast(Json, parent).get(name) if isinstance(parent, Mapping) else None
    return cast(Json, value) if isinstance(value, Mapping) else {}


def num(parent: Json, name: str) -> float | None:
    """The finite number `name` of `parent`, or None."""
    value = parent.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def system_name(name: str, system: Json | None = None) -> str:
    """What the page calls the system `name`."""
    found = _system(name)
    shown, votes = name if found is None else found.caption, num(system or {}, "votes")
    matched = found is not None and found.votes is None and votes is not None and votes > 1
    return f"{shown} ({votes:.0f} votes)" if matched else shown


def kind_of(name: str) -> str:
    """The CSS classes that colour a system."""
    found = _system(name)
    return "other" if found is None else found.css


def _system(name: str) -> SystemId | None:
    try:
        return SystemId.parse(name)
    except ValueError:
        return None


def as_before(report: Report) -> dict[str, Any]:
    """What the model card reads: the report as plain data, with some keys as the card names them."""
    given = report.as_json()
    given["caveats"] = [caveat.text for caveat in report.caveats]
    for item in given["differences"]:
        item["name"] = f"{item['first']} - {item['second']}"
    if given["regression"] is not None and (general := given["regression"].pop("general")) is not None:
        lengths = {"base": general.pop("tokens_base"), "distilled": general.pop("tokens_distilled")}
        given["regression"] |= {**general, **(general.pop("divergence") or {}), "lengths": lengths}
    if given["contamination"] is not None:
        for row in given["contamination"]["rows"]:
            row |= {"with": row["train_id"], "other": row["train_text"]}
    return given
