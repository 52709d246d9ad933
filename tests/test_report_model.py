"""report.json as a model: what is written is what is read, and anything else is refused in one line; names of systems."""

import json
from pathlib import Path

import pytest

from reports import full, report
from secondnature.report.model import Report, read_report, write_report
from secondnature.systems import CONTROLS, DISTILLED, KINDS, SystemId
from secondnature.types import UserError


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert read_report(path) is None
    write_report(path, report())
    assert read_report(path) == report()
    given = json.loads(path.read_text())
    assert given["systems"]["distilled"]["accuracy"] == 0.426
    assert given["systems"]["control_unfiltered"] is None


def test_every_key_of_a_report_is_in_its_schema() -> None:
    schema = Report.model_json_schema()
    assert full().keys() <= schema["properties"].keys()
    assert schema["$defs"]["SystemFigures"]["properties"]["accuracy"]["description"]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("{", "at column"), ("[]", "all of it"), ("{}", "verdict"), ("[" * 100_000, "nested"), ('{"a": "\\ud800"}', "surrogate"),
        (json.dumps({**full(), "verdict": "maybe"}), "verdict"),
        (json.dumps({**full(), "systems": {"another": None}}), "systems.another"),
        (json.dumps({**full(), "more": 1}), "more: Extra inputs"),
        (json.dumps(full()).replace("0.426", "1e999"), "accuracy"),
        (json.dumps({**full(), "caveats": ["as in an older version"]}), "caveats.0"),
        (json.dumps({**full(), "systems": {"distilled": {"n": -1}}}), "systems.distilled"),
    ],
    ids=range(11),
)  # fmt: skip
def test_a_foreign_report_is_refused_in_one_line(content: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(UserError, match="writes it anew") as raised:
        read_report(path)
    assert place in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("key", "system", "caption"),
    [
        ("system1", SystemId("system1"), "System 1"),
        ("distilled", DISTILLED, "Distilled"),
        ("system2_voted_5", SystemId("system2", votes=5), "System 2 (5 votes)"),
        ("distilled_voted_1", SystemId("distilled", votes=1), "Distilled (1 sample)"),
        ("system1_voted", SystemId("system1_voted"), "System 1, voted"),
        ("distilled_seed_7", SystemId("distilled", seed=7), "Distilled, seed 7"),
        ("baseline_at_once", SystemId("baseline", baseline="at_once"), "System 1, at once"),
        ("baseline_x_voted_3", SystemId("baseline", baseline="x_voted_3"), "System 1, x voted 3"),
        ("control_unfiltered", SystemId("control_unfiltered"), "Control: no filter"),
    ],
)
def test_a_key_names_one_system(key: str, system: SystemId, caption: str) -> None:
    assert SystemId.parse(key) == system
    assert (system.key, system.caption) == (key, caption)


@pytest.mark.parametrize("key", ["", "baseline", "system3", "system1_voted_05", "control_x", "distilled_seed_x"])
def test_another_key_names_none(key: str) -> None:
    with pytest.raises(ValueError, match="is no system"):
        SystemId.parse(key)


def test_every_control_is_described() -> None:
    assert {system.kind for system in CONTROLS} == {kind for kind in KINDS if kind.startswith("control_")}
    assert all(system.is_control and system.description for system in CONTROLS)
