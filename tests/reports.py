"""Reports made by hand: a full one, and small ones with some parts replaced."""

from typing import Any

from secondnature.report.model import Report

SETTINGS = {
    "n": 8, "min_agreement": 0.75, "temperature": 0.7, "top_p": 0.95, "max_tokens": 128, "margin": 0.05, "limit": None,
}  # fmt: skip


def figures(accuracy: float | None, tokens: float, **more: Any) -> dict[str, Any]:
    ci = None if accuracy is None else [accuracy - 0.08, accuracy + 0.08]
    scores = {
        "n": 134, "accuracy": accuracy, "accuracy_ci": ci, "agreement_with_system2": 0.621, "agreement_ci": [0.55, 0.7],
    }  # fmt: skip
    slices = {"mix": scores, "wrong": {**scores, "n": 67}}
    rest = {
        "tokens_per_answer": tokens, "prompt_tokens_per_answer": 44.0, "cost_per_1000": None, "unparsable": 0.123,
        "truncated": None, "votes": 1, "description": "", "stability": None, "latency_prompts": 20, "same_answer": 0.5,
    }  # fmt: skip
    return {**scores, **rest, "latency_ms_p50": tokens * 10, "latency_ms_p95": 4321.0, "slices": slices, **more}


def full(labels: bool = True) -> dict[str, Any]:
    """What a finished run's report.json holds, with and without labels."""

    def acc(value: float) -> float | None:
        return value if labels else None

    scores = {
        "n": 131,
        "accuracy": acc(0.41),
        "accuracy_ci": [0.33, 0.49],
        "agreement_with_system2": 0.6,
        "agreement_ci": None,
    }
    return {
        "verdict": "ship",
        "reason": "Distilled loses less than the margin.",
        "model": "bundled:smollm2-135m",
        "task": "biased_capitals",
        "technique": "s2a",
        "system1": {},
        "part": "test",
        "headline": "mix",
        "systems": {
            "system1": figures(acc(0.251), 21.0, description="the prompt, answered at once"),
            "system2": figures(acc(0.432), 168.4, agreement_with_system2=0.714, truncated=0.045),
            "distilled": figures(
                acc(0.426), 6.2, stability={"swap": {"n": 100, "changed": 0.123, "changed_ci": [0.05, 0.2]}}
            ),
            "system2_voted_5": figures(acc(0.45), 842.0, votes=5),
            "system1_voted": figures(acc(0.29), 168.0, votes=8),
            "baseline_ignore_opinions": figures(acc(0.11), 19.3),
            "baseline_another_one": figures(acc(0.2), 30.0),
            "control_unfiltered": None,
        },
        "agreement": {"floor": 0.313, "ceiling": 0.714},
        "differences": [
            {"first": "distilled", "second": "system2", "slice": "mix", "difference": -0.006, "ci": [-0.04, 0.05]},
            {"first": "distilled", "second": "system1", "slice": None, "difference": 0.175, "ci": [0.09, 0.24]},
            {"first": "distilled", "second": "system1_voted", "slice": "mix", "difference": -0.1, "ci": [-0.2, -0.02]},
        ],
        "curation": {
            "prompts": 300, "samples": 1800, "samples_fixed_n": 2400, "tokens_saved_by_early_stopping": 12345,
            "kept": 141, "discarded": {"low agreement": 120, "unparsable": 30, "truncated": 5, "tie": 4}, "calls": 2100,
            "calls_reused": 900, "tokens_prompt": 400000, "tokens_completion": 60000, "seconds": 210.0, "thresholds": None,
            "label_precision": 0.617 if labels else None, "label_precision_single": 0.404 if labels else None,
        },
        "training": {
            "digest": "abc", "examples": 141, "steps": 30, "tokens": 6000, "loss_first": 2.1, "loss_last": 0.3, "seconds": 80.0,
            "tokens_per_second": 300.0, "history": [{"step": i, "loss": 2.1 / i} for i in range(1, 31)],
        },
        "caveats": [{"kind": "seeds", "text": "Another seed was inconclusive."}],
        "next_step": "Try it: `secondnature ask RUN`, and see.",
        "constant": {"answer": "paris", "share": 0.02},
        "saving": {"than": "System 1", "tokens": 6.2, "tokens_other": 21.0, "ratio": 0.295, "ci": [0.2, 0.41], "decided": True},
        "tests": [
            {"name": "distilled - system2", "question": "Is it within 0.05 of System 2?", "kind": "non-inferiority",
             "margin": 0.05, "n": 134, "groups": 67, "difference": -0.006, "ci": [-0.04, 0.05], "p": 0.0312, "decided": True},
            {"name": "distilled - system2", "question": "Is it better than System 2?", "kind": "superiority", "margin": 0,
             "n": 134, "groups": 67, "difference": -0.006, "ci": [-0.04, 0.05], "p": 0.00004, "decided": False},
        ],
        "power": {"groups": 67, "minimum_detectable_difference": 0.12, "needed": None,
                  "sentence": "With 67 groups 0.12 would be found."},
        "seeds": [
            {**scores, "n": 134, "seed": 11, "accuracy": acc(0.426), "agreement_with_system2": 0.62, "verdict": "ship"},
            {**scores, "n": 134, "seed": 12, "accuracy": acc(0.381), "accuracy_ci": None, "agreement_with_system2": 0.58,
             "verdict": "route"},
        ],
        "regression": {
            "general": {
                "source": "built-in general prompts", "n": 60, "same": 0.717, "same_ci": [0.6, 0.82],
                "tokens_base": 55.1, "tokens_distilled": 12.3,
                "divergence": {"kl": 0.0312, "kl_ci": [0.02, 0.05], "perplexity_base": 1.21, "perplexity_distilled": 1.34},
                "changed": [{"prompt": "Why is the sky blue?", "base": "It scatters.", "distilled": "Blue.", "kl": 0.41}],
            },
            "tasks": [{"task": "arc_local", "metric": "acc", "base": 0.31, "base_stderr": 0.046, "distilled": 0.29,
                       "distilled_stderr": 0.045, "n": 100}],
        },
        "contamination": {
            "n": 134, "flagged": 2, "kinds": {"exact": 0, "n-gram": 1, "near-duplicate": 1},
            "rows": [
                {"id": "t17", "kind": "near-duplicate", "train_id": "train-201", "score": 0.914, "text": "Of Peru?",
                 "train_text": "Peru"},
                {"id": "t18", "kind": "n-gram", "train_id": "train-7", "score": 0.8, "text": "Of Chile?",
                 "train_text": "Chile is"},
            ],
            "without": {"n": 131, "systems": {"distilled": scores}},
        },
        "settings": SETTINGS,
        "seconds": {},
        "versions": {"python": "3.11.7"},
        "hardware": {"cpu": "a CPU", "cores": 2},
        "model_identity": None,
        "source": "GeoNames, CC BY 4.0",
    }  # fmt: skip


def report(labels: bool = True, **parts: Any) -> Report:
    """The full report with some of its parts replaced."""
    return Report.model_validate({**full(labels), **parts})


def empty(**parts: Any) -> Report:
    """The report of a run in which nothing was done yet, with some parts replaced."""
    kept = ("model", "task", "technique", "system1", "part", "headline", "settings", "seconds")
    nothing = {name: None for name in full() if name not in kept}
    given = {
        **full(),
        **nothing,
        "verdict": "inconclusive",
        "reason": "",
        "next_step": "",
        "caveats": [],
        "systems": {},
    }
    return Report.model_validate({**given, "tests": [], "differences": [], **parts})
