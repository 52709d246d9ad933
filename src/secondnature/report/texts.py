"""Numbers and strings as the page writes them."""

import re

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def visible(text: str) -> str:
    """`text` with what a browser would swallow or obey (control characters, bidi overrides) written out."""
    return _UNSAFE.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def shorten(text: str, most: int) -> str:
    """`text` on one line, its beginning and end where it has more than `most` characters: an answer comes last."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most * 2 // 3].rstrip()} … {line[-(most // 3) :].lstrip()}"


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}%"


def count(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}" if value % 1 and abs(value) < 1000 else f"{value:,.0f}"


def points(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def short(value: float | None) -> str:
    """Three digits of a number of any size."""
    return NONE if value is None else f"{value:.3g}"


def money(value: float | None) -> str:
    """A sum in whatever currency the prices were."""
    return NONE if value is None else f"{value:,.2f}" if abs(value) >= 1 else f"{value:.2g}"


def p_value(value: float | None) -> str:
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def duration(ms: float | None) -> str:
    if ms is None:
        return NONE
    if ms < 60_000:
        return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def compared(value: float | None, other: float | None, than: str, more: str, less: str) -> str | None:
    """`value` as a multiple of `other`, in words."""
    if not value or not other:
        return None
    if 0.95 < value / other < 1.05:
        return f"about the same as {than}"
    return f"{times(value / other)} {more} {than}" if value > other else f"{times(other / value)} {less} {than}"
