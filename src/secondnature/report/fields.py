"""Reading report.json, any part of which may be missing or odd, and what the page calls the systems in it."""

import math
from collections.abc import Mapping
from typing import Any, cast

from secondnature.report.model import Report

Json = Mapping[str, Any]
Interval = tuple[float, float]

NAMES = {
    "system1": "System 1",
    "system2": "System 2",
    "distilled": "Distilled",
    "system1_voted": "System 1, voted",
    "control_unfiltered": "Control: no filter",
    "control_system1_self": "Control: System 1 self",
}
MAIN = ("system1", "system2", "distilled")


def part(parent: object, name: str) -> Json:
    """The object `name` of `parent`, empty where there is none."""
    value = cast(Json, parent).get(name) if isinstance(parent, Mapping) else None
    return cast(Json, value) if isinstance(value, Mapping) else {}


def parts(parent: Json, name: str) -> list[Json]:
    """The objects in the list `name` of `parent`."""
    value = parent.get(name)
    return [cast(Json, v) for v in cast(list[Any], value) if isinstance(v, Mapping)] if isinstance(value, list) else []


def num(parent: Json, name: str) -> float | None:
    """The finite number `name` of `parent`, or None."""
    value = parent.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def string(parent: Json, name: str) -> str | None:
    """The text `name` of `parent`, or None."""
    value = parent.get(name)
    return value if isinstance(value, str) else None


def strings(parent: Json, name: str) -> list[str]:
    """The texts in the list `name` of `parent`."""
    value = parent.get(name)
    return [v for v in cast(list[Any], value) if isinstance(v, str)] if isinstance(value, list) else []


def interval(parent: Json, name: str) -> Interval | None:
    value = parent.get(name)
    if not isinstance(value, list | tuple) or len(cast(list[Any], value)) != 2:
        return None
    low, high = (num({"": end}, "") for end in cast(list[Any], value))
    return None if low is None or high is None else (low, high)


def system_name(name: str, system: Json | None = None) -> str:
    """What the page calls the system `name`."""
    base, _, k = name.partition("_voted_")
    if base in NAMES and k.isdecimal():
        return f"{NAMES[base]} ({k} votes)" if int(k) > 1 else f"{NAMES[base]} (1 sample)"
    shown = NAMES.get(name) or "System 1, " + name.removeprefix("baseline_").replace("_", " ")
    votes = num(system or {}, "votes")
    return f"{shown} ({votes:.0f} votes)" if votes is not None and votes > 1 else shown


def kind_of(name: str) -> str:
    """The CSS classes that colour a system: votes have their system's colour, hollow; the others share one."""
    base, _, k = name.partition("_voted_")
    return name if name in MAIN else f"{base} voted" if base in MAIN and k else "other"


def as_before(report: Report) -> dict[str, Any]:
    """What the page reads, until it reads the model."""
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
