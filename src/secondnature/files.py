"""Files that are written whole or not at all, read back with one-line errors, and named by their digests."""

import contextlib
import functools
import glob
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from filelock import FileLock, Timeout

from secondnature.types import UserError
from secondnature.untrusted import parse_json

LOCK = ".lock"  # ends the name of the file that is locked while a process works in the folder beside it
SETTLED = 2_000_000_000  # nanoseconds since a file was written, after which its time tells whether it is the same


@contextmanager
def rewriting(path: Path) -> Generator[TextIO]:
    """A file to write anew: a kill or an error leaves the old one or the new one, never half of one."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
    sync(path.parent)  # a new name is on disk once its folder is


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with rewriting(path) as file:
        file.write(text)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on disk; folders where the system can."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        # not every network file system can sync a folder
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, read once for as long as it is the same: a large model's takes half a minute."""
    found = path.stat()
    if time.time_ns() - found.st_mtime_ns < SETTLED:  # it could be written again within the clock's tick
        return _read_digest(path)
    return _known_digest(path.absolute(), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@functools.cache
def _known_digest(path: Path, *_: int) -> str:
    return _read_digest(path)


def _read_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """The digests of files in a folder, each by its path from there."""
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(files) if path.is_file()}


def digest_of(value: object) -> str:
    """The SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_json(path: Path, mend: str) -> dict[str, Any]:
    """The object in a JSON file, empty where there is none; `mend` ends the UserError about one that is damaged."""
    return _object(path.read_bytes(), str(path), mend) if path.exists() else {}


def read_rows(path: Path, mend: str) -> Iterator[dict[str, Any]]:
    """The objects in a JSON Lines file, none where there is none; `mend` ends the UserError about one that is damaged."""
    if path.exists():
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield _object(line, f"{path}, line {number}", mend)


def _object(content: bytes, where: str, mend: str) -> dict[str, Any]:
    try:
        value: object = parse_json(content.decode())
    except ValueError as error:
        raise UserError(f"{where}: broken JSON ({error}): {mend}") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: a {type(value).__name__} where an object should be: {mend}")
    return cast("dict[str, Any]", value)


def to_json(value: Any) -> str:
    """The content of a JSON file."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def to_line(row: Mapping[str, Any]) -> str:
    """A line of a JSON Lines file."""
    return json.dumps(row, ensure_ascii=False) + "\n"


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Generator[Path]:
    """A new folder in `parent`, removed at the end; `remove_leftovers` with the same `prefix` removes it after a kill."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{prefix}{secrets.token_hex(8)}"
    with _locked(folder):
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(parent: Path, prefix: str, rescue: Callable[[Path], None] = lambda folder: None) -> None:
    """Remove what `scratch_folder` left in `parent` where a process was killed; `rescue` sees each folder before it goes."""
    for lock in parent.glob(f"{glob.escape(prefix)}{'[0-9a-f]' * 16}{LOCK}"):
        folder = lock.with_name(lock.name.removesuffix(LOCK))
        with contextlib.suppress(Timeout, OSError), _locked(folder):
            rescue(folder)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Raises Timeout where another process works in the folder."""
    path = folder.with_name(folder.name + LOCK)
    lock = FileLock(path)
    with contextlib.suppress(NotImplementedError):  # not every network file system has locks
        lock.acquire(timeout=0)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
