"""The measured part of a model card: the systems, what the comparison can tell, regression, contamination."""

from collections.abc import Mapping
from typing import Any

from secondnature.export.markdown import cell, table
from secondnature.report.fields import system_name

Json = Mapping[str, Any]
COLUMNS = ("", "n", "accuracy [95%]", "= System 2 [95%]", "tokens", "prompt tokens", "unparsable", "ms")


def part(parent: Json, name: str) -> dict[str, Any]:
    """A mapping in a report; empty where there is none."""
    return dict(parent.get(name) or {})


def parts(parent: Json, name: str) -> list[dict[str, Any]]:
    """A list of mappings in a report; empty where there is none."""
    return list(parent.get(name) or [])


def number(value: Any, form: str = ".3f") -> str:
    return format(value, form) if isinstance(value, int | float) else ""


def interval(value: Any, form: str = ".2f") -> str:
    return f" [{number(value[0], form)}, {number(value[1], form)}]" if value else ""


def results(report: Json) -> str:
    """Every system that was measured, and how the columns are read."""
    systems = {name: system for name, system in report["systems"].items() if system is not None}
    if not systems:
        return "No system was measured: there were no test prompts, or they were not asked."
    where = cell(report["headline"]) if report.get("headline") else f"all {report['part']} prompts"
    rows = [
        [
            cell(system_name(name, system)),
            number(system["n"], "d"),
            number(system.get("accuracy")) + interval(system.get("accuracy_ci")) or "no labels",
            number(system.get("agreement_with_system2")) + interval(system.get("agreement_ci")),
            number(system.get("tokens_per_answer"), ".1f"),
            number(system.get("prompt_tokens_per_answer"), ".1f"),
            number(system.get("unparsable"), ".2f"),
            number(system.get("latency_ms_p50"), ".0f")
            + (f" ({system['latency_prompts']})" if system.get("latency_prompts") else ""),
        ]
        for name, system in systems.items()
    ]
    lines = [
        f"On the {report['part']} part, {where}; intervals are 95%, by bootstrap over groups of prompts.",
        "",
        table(COLUMNS, rows),
        "",
        "*= System 2* is how often the answer is System 2's (of System 2 itself: how often a second draw gives it again), "
        "*unparsable* the share of answers that could not be read, *tokens* are those "
        "generated for an answer with all intermediate steps, *ms* is the median latency of one prompt at a time (of so many). "
        "System 1 is the base asked plainly, System 2 the base with the technique.",
    ]
    between = report.get("agreement")
    if between:
        lines += [
            "",
            f"Agreement with System 2 lies between {between['floor']:.3f} (System 1 untouched) and {between['ceiling']:.3f} "
            "(System 2 with another draw of itself).",
        ]
    return "\n".join([*lines, *_tests(report), *_stability(systems), *_seeds(report), *_slices(systems)])


def _tests(report: Json) -> list[str]:
    rows = [
        [
            cell(test["question"]),
            number(test.get("n"), "d"),
            number(test.get("difference"), "+.3f") + interval(test.get("ci"), "+.3f"),
            number(test.get("p"), ".4f"),
            "yes" if test.get("decided") else "no",
        ]
        for test in parts(report, "tests")
    ]
    lines = ["", table(("question", "n", "difference [95%]", "p", "shown"), rows)] if rows else []
    sentence = part(report, "power").get("sentence")
    return [*lines, "", cell(sentence, 600)] if sentence else lines


def _stability(systems: Json) -> list[str]:
    rows = [
        [cell(system_name(name, system)), cell(change), number(found["n"], "d"),
         number(found.get("changed")) + interval(found.get("changed_ci"))]
        for name, system in systems.items()
        for change, found in part(system, "stability").items()
    ]  # fmt: skip
    if not rows:
        return []
    lead = "How often an answer changes when the prompt is changed in a way that must not change it:"
    return ["", lead, "", table(("", "change", "n", "changed [95%]"), rows)]


def _seeds(report: Json) -> list[str]:
    rows = [
        [
            number(seed["seed"], "d"),
            number(seed.get("accuracy")) + interval(seed.get("accuracy_ci")),
            number(seed.get("agreement_with_system2")),
            cell(str(seed.get("verdict") or "")),
        ]
        for seed in parts(report, "seeds")
    ]
    if not rows:
        return []
    return ["", "By training seed:", "", table(("seed", "accuracy [95%]", "= System 2", "verdict"), rows)]


def _slices(systems: Json) -> list[str]:
    main = [name for name in ("system1", "system2", "distilled") if name in systems]
    names = sorted({name for system in main for name in part(systems[system], "slices")})
    if not names:
        return []

    def shown(found: Json | None) -> str:
        if not found:
            return ""
        if found.get("accuracy") is None:
            return number(found.get("agreement_with_system2")) + interval(found.get("agreement_ci"))
        return number(found["accuracy"]) + interval(found.get("accuracy_ci"))

    rows = [[cell(name), *(shown(part(systems[s], "slices").get(name)) for s in main)] for name in names]
    lead = "Slice by slice, accuracy (agreement with System 2 where there are no labels):"
    return ["", lead, "", table(("slice", *(system_name(s) for s in main)), rows)]


def regression(report: Json) -> str | None:
    """What distilling did to other prompts; None where it was not measured."""
    found = report.get("regression")
    if not found:
        return None
    lengths = part(found, "lengths")
    rows = [
        ["answers that are the base's word for word", number(found.get("same")) + interval(found.get("same_ci"))],
        ["KL divergence from the base, nats a token", number(found.get("kl"), ".4f") + interval(found.get("kl_ci"), ".4f")],
        ["perplexity of the base's answers: base", number(found.get("perplexity_base"))],
        ["perplexity of the base's answers: distilled", number(found.get("perplexity_distilled"))],
        ["mean tokens of an answer: base", number(lengths.get("base"), ".1f")],
        ["mean tokens of an answer: distilled", number(lengths.get("distilled"), ".1f")],
    ]  # fmt: skip
    lines = [
        f"On {found.get('n')} prompts that have nothing to do with the task ({cell(str(found.get('source')))}):",
        "",
        table(("", "value [95%]"), [row for row in rows if row[1]]),
    ]
    tasks = [
        [cell(str(task["task"])), cell(str(task["metric"])), number(task.get("n"), "d"),
         f"{number(task.get('base'))} ± {number(task.get('base_stderr'))}",
         f"{number(task.get('distilled'))} ± {number(task.get('distilled_stderr'))}"]
        for task in parts(found, "tasks")
    ]  # fmt: skip
    if tasks:
        lines += ["", table(("task", "metric", "n", "base", "distilled"), tasks)]
    return "\n".join(lines)


def contamination(report: Json) -> str | None:
    """How many test prompts were seen in training or are known to the base; None where nobody looked."""
    found = report.get("contamination")
    if not found:
        return None
    kinds = ", ".join(f"{cell(str(kind))} {count}" for kind, count in part(found, "kinds").items() if count)
    lines = [f"{found['flagged']} of {found['n']} test prompts were flagged" + (f" ({kinds})." if kinds else ".")]
    without = part(found, "without")
    rows = [
        [cell(system_name(name, system)), number(system.get("accuracy")) + interval(system.get("accuracy_ci")),
         number(system.get("agreement_with_system2"))]
        for name, system in part(without, "systems").items() if system is not None
    ]  # fmt: skip
    if found["flagged"] and rows:
        lead = f"Without them, on {without.get('n')} prompts:"
        lines += ["", lead, "", table(("", "accuracy [95%]", "= System 2"), rows)]
    return "\n".join(lines)
