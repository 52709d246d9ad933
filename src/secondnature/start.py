"""What a new user begins with: a recipe and sample data of each kind of step, and the demo."""

from pathlib import Path

from secondnature.types import UserError, nearest

TEMPLATES = Path(__file__).parent / "templates"
DEMO = TEMPLATES / "demo.yaml"
KINDS = ("classifier", "judge", "extractor", "qa")


def write_starter(kind: str, folder: Path) -> list[Path]:
    """Write the recipe and the data for a step of this kind into `folder`; returns the files.

    Raises UserError for an unknown kind, and where one of the files is there already.
    """
    if kind not in KINDS:
        raise UserError(f"init: there is no {kind!r}{nearest(kind, KINDS)}; there are: {', '.join(KINDS)}")
    files = {folder / path.name: path for path in sorted((TEMPLATES / kind).iterdir())}
    for path in files:
        if path.exists():
            raise UserError(f"init: {path} is there already, and nothing is overwritten: give --out another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, source in files.items():
        path.write_bytes(source.read_bytes())
    return list(files)
