"""One real run on the embedded model, small: System 2 beats System 1, and training teaches."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import secondnature as sn
from secondnature.start import DEMO

pytestmark = pytest.mark.model
SMALLER = (
    "sampling.n=3",
    "verify.min_agreement=0.6",
    "sampling.max_tokens=40",
    "train.learning_rate=5e-4",
    "evaluate.voted=false",
    "evaluate.latency_prompts=2",
    "evaluate.baselines={}",
    "evaluate.regression=false",
)


def test_the_embedded_model_learns_to_do_at_once_what_it_could_only_do_in_two_steps(tmp_path: Path) -> None:
    run = sn.distill(DEMO, tmp_path / "run", limit=100, sets=SMALLER, quiet=True)
    report = run.report
    systems = report["systems"]
    wrong = {name: systems[name]["slices"]["wrong"]["accuracy"] for name in ("system1", "system2", "distilled")}
    assert wrong["system2"] > wrong["system1"], wrong
    assert wrong["distilled"] > wrong["system1"], wrong
    assert report["training"]["loss_last"] < report["training"]["loss_first"]
    assert report["curation"]["label_precision"] > report["curation"]["label_precision_single"], "voting filters"
    tested = systems["distilled"]["agreement_with_system2"], systems["system1"]["agreement_with_system2"]
    assert tested[0] > tested[1], "the student answers more as System 2 does"
    assert systems["distilled"]["tokens_per_answer"] < systems["system2"]["tokens_per_answer"]
    answers = [row["completion"][0]["content"] for row in run.curated]
    assert answers
    assert all(answer.strip() == answer != "" for answer in answers)
