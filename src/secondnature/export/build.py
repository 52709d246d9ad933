"""`export()`: what of a run is written where, top to bottom. It reads the run folder and changes nothing in it."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from secondnature.adapters import is_current, training_summary
from secondnature.export.base import HUB_ID, Base, base_of
from secondnature.export.card import Card, model_card, system_of
from secondnature.export.clean import Cleaner, cleaner, data_of
from secondnature.export.dataset import rows_of, write_dataset
from secondnature.export.gguf import convert, find_converter, modelfile_of
from secondnature.export.hub import check_can_push, push
from secondnature.export.results import part
from secondnature.export.weights import Merged, adapter_rank, write_adapter, write_merged
from secondnature.progress import Display
from secondnature.recipe_file import parse_recipe
from secondnature.run import Run, read_json, to_json, versions, write
from secondnature.tasks.columns import messages_of
from secondnature.types import UserError

MARK = "export.json"  # a folder with it is an export, which another export may replace
COMPARED = 8  # prompts that a merged model is checked on
LONGEST = 64  # tokens of each answer in that check


@dataclass(frozen=True)
class Wanted:
    """What to export. `merged` is base and adapter in one; `gguf` has a converter or None for one that is at hand."""

    merged: bool = False
    dataset_only: bool = False
    gguf: bool = False
    converter: Path | None = None
    base: str | None = None
    repo: str | None = None
    dataset_repo: str | None = None
    private: bool = True


def export(run: Run, out: Path, wanted: Wanted, say: Callable[[str], None] = print) -> list[str]:
    """Write what is `wanted` of a run into the folder `out` and push it where asked; returns the addresses pushed to.

    A former export in `out` is replaced once the new one is whole. Raises UserError where there is nothing to export, what
    there is does not fit together, or the hub refuses.
    """
    if wanted.repo or wanted.dataset_repo:
        check_can_push(wanted.repo, wanted.dataset_repo)
    _check_target(out)
    report = _report(run)
    if not wanted.dataset_only:
        _check_adapter(run, report)
    converter = find_converter(wanted.converter, say) if wanted.gguf else None
    clean = cleaner(run)
    base = base_of(run, wanted.base)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        about = (
            f"Made by Second Nature from the task `{report['task']}` with the technique `{clean.text(report['technique'])}` "
            f"and the model `{base.name}`."
        )
        kept, discarded = write_dataset(run, partial / "dataset", about)
        say(f"dataset: {kept} kept prompts in three formats, {discarded} discarded ones with their reasons")
        merged = None
        if not wanted.dataset_only:
            merged = _weights(run, partial, wanted, base, converter, say)
            card = _card(run, report, clean, base, wanted, merged)
            write(partial / "README.md", model_card(card))
            _copies(run, partial, clean)
        _finish(partial, out, wanted, base, merged)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return _push(out, wanted)


def _report(run: Run) -> dict[str, Any]:
    if not run.curated.exists():
        raise UserError(f"{run.folder}: nothing to export yet: run `secondnature verify {run.folder}` first")
    if not run.curated.stat().st_size:
        raise UserError(f"{run.folder}: nothing was kept, so there is nothing to export; report.html says why")
    if not run.report.exists():
        raise UserError(f"{run.folder}: a card tells what was measured: run `secondnature report {run.folder}` first")
    return read_json(run.report, f"run `secondnature report {run.folder}` again")


def _check_adapter(run: Run, report: dict[str, Any]) -> None:
    """The adapter must be made from what is kept now, and the report be about it."""
    trained = training_summary(run.adapter).get("digest")
    if trained is None:
        raise UserError(
            f"{run.folder}: nothing is distilled yet: run `secondnature train {run.folder}`, or export --dataset-only"
        )
    if not is_current(run):
        raise UserError(
            f"{run.folder}: the adapter was trained on something else than the recipe and curated.jsonl say now: run "
            f"`secondnature train {run.folder}`, then evaluate and report"
        )
    if part(report, "training").get("digest", trained) != trained:
        raise UserError(
            f"{run.folder}: report.json is about an older adapter: run `secondnature evaluate {run.folder}`, then report"
        )


def _check_target(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is not a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise UserError(f"--out {out} is not empty and not an export: give another folder")


def _weights(
    run: Run, out: Path, wanted: Wanted, base: Base, converter: Path | None, say: Callable[[str], None]
) -> Merged | None:
    """Write the adapter or the merged model, and the GGUF file, which is made of the latter in either case."""
    if not wanted.merged:
        write_adapter(run.adapter, out, base)
        say(f"adapter: of {base.name}")
        if converter is None:
            return None
    with tempfile.TemporaryDirectory(dir=out.parent) as spare:
        say("merge: adding the adapter to the base, and comparing what they answer")
        merged = _merge(run, out if wanted.merged else Path(spare), base)
        say(f"merged: {merged.same} of {merged.prompts} greedy answers are the adapter's, token for token")
        if converter is not None:
            _write_gguf(run, converter, out if wanted.merged else Path(spare), out / f"{_name(run)}.gguf", say)
    return merged if wanted.merged else None


def _write_gguf(run: Run, converter: Path, model: Path, target: Path, say: Callable[[str], None]) -> None:
    say(f"gguf: converting, with {converter.name}")
    convert(converter, model, target)
    text = modelfile_of(model, target.name, system_of(run.recipe), run.recipe.sampling.max_tokens)
    write(target.with_name("Modelfile"), text)
    say(f"gguf: {target.name}, {target.stat().st_size / 1e6:.0f} MB, and a Modelfile for Ollama")


def _merge(run: Run, out: Path, base: Base) -> Merged:
    from secondnature.engines.models import locate

    rows = list(rows_of(run.curated))
    number = min(COMPARED, len(rows))
    chosen = [rows[i * len(rows) // number] for i in range(number)]
    prompts = [messages_of(row["prompt"], row["id"]) for row in chosen]
    model = locate(run.recipe.train.base or run.recipe.model).path
    longest = min(LONGEST, run.recipe.sampling.max_tokens)
    display = Display()
    with display.step("merge"):
        return write_merged(model, run.adapter, out, base, prompts, longest, display)


def _card(run: Run, report: dict[str, Any], clean: Cleaner, base: Base, wanted: Wanted, merged: Merged | None) -> Card:
    told = None
    if merged is not None:
        told = (
            f"The adapter was added to the base in float32 and saved as {merged.dtype}: {merged.same} of {merged.prompts} "
            "greedy answers to training prompts are the adapter's, token for token. The figures were measured with base and "
            "adapter apart."
        )
    data = list(dict.fromkeys(data_of(run.recipe)))
    files = [(Path(name).name, _file_digest(Path(name))) for name in data if Path(name).is_file()]
    hub = [name for name in data if HUB_ID.fullmatch(name) and not Path(name).exists()]
    return Card(
        name=_name(run),
        report=clean.value(report),
        recipe=parse_recipe(clean.value(run.recipe.model_dump(exclude_none=True))),
        base=base,
        rank=adapter_rank(run.adapter),
        merged=told,
        gguf=f"{_name(run)}.gguf" if wanted.gguf else None,
        data=files,
        datasets=hub,
        repo=wanted.repo,
        dataset_repo=wanted.dataset_repo,
    )


def _copies(run: Run, out: Path, clean: Cleaner) -> None:
    """The recipe and the report, without what belongs to this machine."""
    recipe = clean.value(run.recipe.model_dump(exclude_none=True, exclude={"store"}))
    write(out / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    for path in (run.report, run.page):
        if path.exists():
            write(out / path.name, clean.text(path.read_text(encoding="utf-8")))


def _finish(partial: Path, out: Path, wanted: Wanted, base: Base, merged: Merged | None) -> None:
    """Write the list of files, and put the new export in the place of the old one."""
    files = {
        str(path.relative_to(partial)): _file_digest(path) for path in sorted(partial.rglob("*")) if path.is_file()
    }
    kind = "dataset" if wanted.dataset_only else "merged" if wanted.merged else "adapter"
    check = None if merged is None else {"prompts": merged.prompts, "same": merged.same, "dtype": merged.dtype}
    content = {
        "secondnature": versions()["secondnature"],
        "kind": kind,
        "base": base.name,
        "merged": check,
        "sha256": files,
    }
    write(partial / MARK, to_json(content))
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)


def _push(out: Path, wanted: Wanted) -> list[str]:
    pushed: list[str] = []
    if wanted.repo and not wanted.dataset_only:
        pushed.append(push(out, wanted.repo, private=wanted.private, repo_type="model", ignore=["dataset/*", MARK]))
    if wanted.dataset_repo:
        pushed.append(push(out / "dataset", wanted.dataset_repo, private=wanted.private, repo_type="dataset"))
    return pushed


def _name(run: Run) -> str:
    """A name for what was made, of letters that are safe in a command and a file's name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run.folder.resolve().name).strip("-.")
    return name or "distilled"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
