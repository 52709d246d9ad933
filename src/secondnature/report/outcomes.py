"""What can be said of several systems' answers to one test prompt."""

from collections.abc import Mapping

from secondnature.report.fields import MAIN

OUTCOMES = {
    "gain": "Distilled right, System 1 wrong",
    "loss": "Distilled wrong, System 1 right",
    "ahead": "Distilled right, System 2 wrong",
    "behind": "Distilled wrong, System 2 right",
    "thought": "System 2 right, System 1 wrong",
    "overthought": "System 2 wrong, System 1 right",
    "differs": "Distilled and System 2 write different answers",
    "unread": "An answer could not be read",
}


def outcomes(said: Mapping[str, tuple[str | None, bool | None]]) -> list[str]:
    """Which of OUTCOMES hold, of each system's answer (None: unparsable) and whether it is right (None: no label)."""
    fast, slow, own = ((said[name][1] if name in said else None) for name in MAIN)
    tests = {
        "gain": own is True and fast is False,
        "loss": own is False and fast is True,
        "ahead": own is True and slow is False,
        "behind": own is False and slow is True,
        "thought": slow is True and fast is False,
        "overthought": slow is False and fast is True,
        "differs": {"distilled", "system2"} <= said.keys() and said["distilled"][0] != said["system2"][0],
        "unread": any(answer is None for answer, _ in said.values()),
    }
    return [name for name, holds in tests.items() if holds]
