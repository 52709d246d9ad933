"""What a killed process left is removed by the next; what a live one works in stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from secondnature.files import remove_leftovers, scratch_folder

WORKS = """
import sys
from pathlib import Path
from secondnature.files import scratch_folder
with scratch_folder(Path(sys.argv[1]), "partial-") as folder:
    (folder / "weights").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_leftovers_of_dead_processes_go_and_what_a_live_one_works_in_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (tmp_path / "partial-mine").mkdir()
        remove_leftovers(tmp_path, "partial-")
        assert (folder / "weights").exists()
        process.kill()
    assert (folder / "weights").exists()
    remove_leftovers(tmp_path, "other-")
    assert folder.exists()
    rescued: list[str] = []
    remove_leftovers(tmp_path, "partial-", lambda left: rescued.append((left / "weights").read_text()))
    assert rescued == ["x"]
    assert [path.name for path in tmp_path.iterdir()] == ["partial-mine"]


def test_nothing_is_left_where_the_work_ends_or_fails(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "new", "partial-") as folder:
        folder.rename(tmp_path / "target")
    with pytest.raises(KeyError), scratch_folder(tmp_path / "new", "partial-"):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] in (["new", "target"], ["target", "new"])
