"""`export()`: what of a run is written where, top to bottom. It reads the run folder and changes nothing in it."""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import cast

import yaml

from secondnature.adapters import check_adapter, is_current, training_summary
from secondnature.curated import checked, kept_rows
from secondnature.export.card import Card, model_card, system_of
from secondnature.export.dataset import write_dataset
from secondnature.export.hub import HUB_ID, Base, base_of, check_can_push, push
from secondnature.export.redact import Redactor, cleaner, data_of
from secondnature.export.weights import (
    Merged,
    adapter_rank,
    convert,
    find_converter,
    modelfile_of,
    write_adapter,
    write_merged,
)
from secondnature.files import digests, file_digest, remove_leftovers, scratch_folder, to_json, write
from secondnature.progress import Display
from secondnature.recipe_file import parse_recipe
from secondnature.report.fields import as_before
from secondnature.report.model import Report, read_report
from secondnature.run import Run, versions
from secondnature.tasks.columns import messages_of
from secondnature.types import UserError

MARK = "export.json"  # the list of an export's files and their digests: a folder of just these may be replaced by another export
COMPARED = 8  # prompts that a merged model is checked on
LONGEST = 64  # tokens of each answer in that check


@dataclass(frozen=True)
class ExportOptions:
    """What to export. `merged` is base and adapter in one; `gguf` has a converter or None for one that is at hand."""

    merged: bool = False
    dataset_only: bool = False
    gguf: bool = False
    converter: Path | None = None
    base: str | None = None
    repo: str | None = None
    dataset_repo: str | None = None
    private: bool = True


def export(run: Run, out: Path, wanted: ExportOptions, say: Callable[[str], None] = print) -> list[str]:
    """Write what is `wanted` of a run into the folder `out` and push it where asked; returns the addresses pushed to.

    A former export in `out` is replaced once the new one is whole, and nothing else ever is. Raises UserError where there is
    nothing to export, what there is does not fit together, or the hub refuses.
    """
    if wanted.repo or wanted.dataset_repo:
        check_can_push(wanted.repo, wanted.dataset_repo)
    _check_target(out)
    out = out.resolve()
    prefix = f".{out.name[:100]}."
    remove_leftovers(out.parent, prefix, rescue=lambda left: _put_back(left / "old", out))
    report = _report(run)
    if not wanted.dataset_only:
        _check_adapter(run, report)
    converter = find_converter(wanted.converter, say) if wanted.gguf else None
    clean = cleaner(run)
    base = base_of(run, wanted.base)
    with scratch_folder(out.parent, prefix) as spare:
        new = spare / "new"
        new.mkdir()
        about = (
            f"Made by Second Nature from the task `{report.task}` with the technique `{clean.text(report.technique)}` "
            f"and the model `{base.name}`."
        )
        kept, discarded = write_dataset(run, new / "dataset", about)
        say(f"dataset: {kept} kept prompts in three formats, {discarded} discarded ones with their reasons")
        merged = None
        if not wanted.dataset_only:
            merged = _weights(run, new, wanted, base, converter, say)
            write(new / "README.md", model_card(_card(run, report, clean, base, wanted, merged)))
            _copies(run, new, clean)
        _list(new, wanted, base, merged)
        _check_target(out)  # again: weights take their time
        if out.exists():
            out.rename(spare / "old")
        new.rename(out)
    return _push(out, wanted)


def _put_back(old: Path, out: Path) -> None:
    """Where a kill came between the two renames, the former export is in its place again."""
    if old.is_dir() and not out.exists():
        old.rename(out)


def _report(run: Run) -> Report:
    if not checked(run).kept:
        raise UserError(f"{run.folder}: nothing was kept, so there is nothing to export; report.html says why")
    if (report := read_report(run.report)) is None:
        raise UserError(f"{run.folder}: a card tells what was measured: run `secondnature report {run.folder}` first")
    return report


def _check_adapter(run: Run, report: Report) -> None:
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
    check_adapter(run.adapter)
    told, files = report.training, training_summary(run.adapter).get("files")
    if told is not None and (told.digest != trained or told.files != files):
        raise UserError(
            f"{run.folder}: report.json is about an older adapter: run `secondnature evaluate {run.folder}`, then report"
        )


def _check_target(out: Path) -> None:
    """Raises UserError unless the folder is free: not there, empty, or an export with nothing else in it."""
    try:
        if out.is_symlink() and not out.exists():
            raise UserError(f"--out {out} is a link that leads nowhere: give another folder")
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} is not a folder")
        there = sorted(out.rglob("*")) if out.is_dir() else []
    except OSError as error:
        raise UserError(f"--out {str(out)[:80]}: {error.strerror}: give another folder") from None
    if not there:
        return
    listed = _listed(out / MARK)
    if listed is None:
        raise UserError(f"--out {out} is not empty and not an export: give another folder")
    folders = {str(folder) for name in listed for folder in PurePath(name).parents}
    for path in there:
        name = path.relative_to(out).as_posix()
        own = name in folders if path.is_dir() else path.is_file() and name in listed
        if path.is_symlink() or (not own and name != MARK):
            raise UserError(f"--out {out}: {name} is not of the export there: move it away, or give another folder")
        if path.is_file() and name != MARK and file_digest(path) != listed[name]:
            raise UserError(
                f"--out {out}: {name} was changed since it was exported: move it away, or give another folder"
            )


def _listed(mark: Path) -> dict[str, str] | None:
    """The files that an export lists, with their digests; None where that is no such list."""
    try:
        content: object = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    found = cast("dict[str, object]", content).get("sha256") if isinstance(content, dict) else None
    listed = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    return {name: str(digest) for name, digest in listed.items()} or None


def _weights(
    run: Run, out: Path, wanted: ExportOptions, base: Base, converter: Path | None, say: Callable[[str], None]
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

    rows = list(kept_rows(run))
    number = min(COMPARED, len(rows))
    chosen = [rows[i * len(rows) // number] for i in range(number)]
    prompts = [messages_of(row["prompt"], row["id"]) for row in chosen]
    model = locate(run.recipe.train.base or run.recipe.model).path
    longest = min(LONGEST, run.recipe.sampling.max_tokens)
    display = Display()
    with display.step("merge"):
        return write_merged(model, run.adapter, out, base, prompts, longest, display)


def _card(run: Run, report: Report, clean: Redactor, base: Base, wanted: ExportOptions, merged: Merged | None) -> Card:
    told = None
    if merged is not None:
        told = (
            f"The adapter was added to the base in float32 and saved as {merged.dtype}: {merged.same} of {merged.prompts} "
            "greedy answers to training prompts are the adapter's, token for token. The figures were measured with base and "
            "adapter apart."
        )
    data = list(dict.fromkeys(data_of(run.recipe)))
    files = [(Path(name).name, file_digest(Path(name))) for name in data if Path(name).is_file()]
    hub = [name for name in data if HUB_ID.fullmatch(name) and not Path(name).exists()]
    return Card(
        name=_name(run),
        report=as_before(Report.model_validate(clean.value(report.as_json()))),
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


def _copies(run: Run, out: Path, clean: Redactor) -> None:
    """The recipe and the report, without what belongs to this machine."""
    recipe = clean.value(run.recipe.model_dump(exclude_none=True, exclude={"store"}))
    write(out / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    for path in (run.report, run.page):
        if path.exists():
            write(out / path.name, clean.text(path.read_text(encoding="utf-8")))


def _list(new: Path, wanted: ExportOptions, base: Base, merged: Merged | None) -> None:
    """Write the list of the export's files: what is not on it, or not as it says, no later export replaces."""
    kind = "dataset" if wanted.dataset_only else "merged" if wanted.merged else "adapter"
    check = None if merged is None else {"prompts": merged.prompts, "same": merged.same, "dtype": merged.dtype}
    content = {
        "secondnature": versions()["secondnature"],
        "kind": kind,
        "base": base.name,
        "merged": check,
        "sha256": digests(new, new.rglob("*")),
    }
    write(new / MARK, to_json(content))


def _push(out: Path, wanted: ExportOptions) -> list[str]:
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
