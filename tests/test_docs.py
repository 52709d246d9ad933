"""The pages say what is so: the reference covers the code, links lead somewhere, and the tutorials' commands run."""

import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Finished
from secondnature.cli import app
from secondnature.recipe import Recipe
from secondnature.tasks import KINDS, TASKS
from secondnature.techniques import TECHNIQUES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *(page for page in DOCS.rglob("*.md") if page.parent.name != "reference")])
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
SKIPPED = ("secondnature view", "secondnature serve")  # until stopped
Cli = Callable[..., Finished]


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    return runpy.run_path(str(DOCS / "reference.py"))["pages"]()


def test_the_reference_has_all_commands_techniques_tasks_and_kinds(reference: dict[str, str]) -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        if not command.hidden:
            assert f"## secondnature {command.name or command.callback.__name__}\n" in reference["commands"]
    for page, names in {"techniques": TECHNIQUES, "tasks": TASKS}.items():
        assert all(f"## {name}\n" in reference[page] for name in names), page
    assert all(f"`{name}`" in reference["answers"] for name in [*KINDS, "label"])


def test_every_key_of_a_recipe_has_a_meaning(reference: dict[str, str]) -> None:
    schema = Recipe.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for key in part.get("properties", {}):
            rows = [line for line in reference["recipe"].splitlines() if line.startswith(f"| `{key}` |")]
            assert rows, key
            assert not [row for row in rows if row.endswith("|  |")], key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_pictures_and_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for link in filter(None, (first or second for first, second in links)):
        if not link.startswith("http") and "reference/" not in link:
            assert (page.parent / link).exists(), link
    for name in re.findall(r"`((?:docs|examples|benchmarks|tests)/[\w/.-]*)`", text):
        assert (ROOT / name).exists(), name


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = {str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)}
    assert pages == {name for name in listed if not name.startswith("reference/")}


def commands_of(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("secondnature", "sed"))]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorials_commands_run(page: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands_of(page):
        if " ".join(command).startswith(SKIPPED):
            continue
        if command[0] == "sed":
            _, _, script, file = command
            _, old, new, _ = script.split("/")
            text = Path(file).read_text(encoding="utf-8")
            assert re.search(old, text, re.MULTILINE), script
            Path(file).write_text(re.sub(old, new, text, flags=re.MULTILINE), encoding="utf-8")
            continue
        anyway = (
            ["--anyway"] if command[1] == "distill" and "--anyway" not in command else []
        )  # the fake engine says yes or no to everything
        done = cli(*command[1:], *anyway)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        if command[1] == "init":  # the fake engine in place of a model
            recipe = tmp_path / command[2] / "recipe.yaml"
            meant: dict[str, Any] = yaml.safe_load(recipe.read_text(encoding="utf-8"))
            text = recipe.read_text(encoding="utf-8").replace(meant["model"], "fake")
            recipe.write_text(f"{text}\nengine: {{kind: fake}}\n", encoding="utf-8")
