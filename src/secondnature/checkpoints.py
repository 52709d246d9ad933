"""The checkpoints of a training: which of them are whole, whatever a kill, a power cut or a full disk left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from secondnature.files import digests, sync

COMPLETE = ".complete"  # in a checkpoint's folder once all of it is on disk: the digests of its files


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as whole, once all of it is on disk: a kill or a power cut leaves none that is half and has the mark."""
    on_disk(checkpoint)
    mark = checkpoint / COMPLETE
    mark.write_text(json.dumps(_digests(checkpoint)))
    sync(mark)
    sync(checkpoint)


def last_checkpoint(checkpoints: Path, say: Callable[[str], None] = lambda line: None) -> Path | None:
    """The last checkpoint that is whole; the others are removed, and of those that were whole once `say` is told."""
    whole: list[Path] = []
    damaged: list[str] = []
    for folder in checkpoints.glob("checkpoint-*"):
        if not folder.is_dir() or not _number(folder).isdigit():
            continue
        if _is_whole(folder):
            whole.append(folder)
            continue
        if (folder / COMPLETE).exists():
            damaged.append(folder.name)
        shutil.rmtree(folder)
    last = max(whole, key=lambda folder: int(_number(folder)), default=None)
    if damaged:
        where = "starts again" if last is None else f"goes on from {last.name}"
        say(f"{', '.join(sorted(damaged))}: damaged, and removed; training {where}")
    return last


def _number(checkpoint: Path) -> str:
    return checkpoint.name.rpartition("-")[2]


def _is_whole(checkpoint: Path) -> bool:
    try:
        return json.loads((checkpoint / COMPLETE).read_text()) == _digests(checkpoint)
    except (OSError, ValueError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    return digests(folder, (path for path in folder.rglob("*") if path.name != COMPLETE))


def on_disk(folder: Path) -> None:
    """Wait until a folder with all that is in it is on disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)
