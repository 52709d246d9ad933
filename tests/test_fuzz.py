"""A thousand cases of bad input, which are the same each time; more, and others, by hand: see fuzz.py."""

from pathlib import Path

import pytest

from fuzz import FAMILIES, Families, fuzz

PARTS = 4  # that a machine with several cores runs side by side
CASES = 200  # of each part, and of models


def held(numbers: range, families: Families = FAMILIES) -> None:
    failures = fuzz(numbers, seed=12, families=families)
    assert not failures, "\n".join(
        f"case {f.number}, {f.family}: {f.kind}: {f.what[:300]}\n{f.said}" for f in failures[:5]
    )


@pytest.mark.parametrize("part", [pytest.param(n, marks=pytest.mark.xdist_group(f"fuzz {n}")) for n in range(PARTS)])
def test_whatever_is_given_is_used_or_refused_in_one_line(part: int) -> None:
    held(range(part * CASES, (part + 1) * CASES))


@pytest.mark.model
@pytest.mark.usefixtures("trusting")
@pytest.mark.xdist_group("fuzz models")
def test_whatever_is_damaged_is_used_or_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import fuzz_models

    monkeypatch.setenv("SECONDNATURE_CACHE", str(tmp_path))
    fuzz_models.prepare()
    held(range(CASES), fuzz_models.FAMILIES)
