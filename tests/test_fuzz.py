"""A thousand cases of bad input, which are the same each time; more, and others, by hand: see fuzz.py."""

from fuzz import fuzz


def test_whatever_is_given_is_used_or_refused_in_one_line() -> None:
    failures = fuzz(1000, seed=12)
    assert not failures, "\n".join(
        f"case {f.number}, {f.family}: {f.kind}: {f.what[:300]}\n{f.said}" for f in failures[:5]
    )
