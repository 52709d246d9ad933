"""Write the reference pages from the code: python docs/reference.py [FOLDER], by default docs/reference."""

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from secondnature.cli import app
from secondnature.recipe import Recipe
from secondnature.tasks import KINDS, TASKS
from secondnature.techniques import TECHNIQUES

Schema = Mapping[str, Any]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in lines
    )


def code(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if text else ""


def summary(function: Callable[..., Any] | type) -> str:
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def commands() -> str:
    group: Any = typer.main.get_command(app)
    root = typer.Context(group, info_name="secondnature")
    parts = ["# Commands", "", "`secondnature COMMAND --help` says the same on the terminal.", ""]
    for name, command in group.commands.items():
        if command.hidden:
            continue
        context = typer.Context(command, info_name=name, parent=root)
        usage = " ".join(command.collect_usage_pieces(context)).replace("{", "").replace("}", "")
        parts += [f"## secondnature {name}", "", command.help or "", "", f"```\nsecondnature {name} {usage}\n```", ""]
        rows: list[list[str]] = []
        for parameter in command.get_params(context):
            if getattr(parameter, "hidden", False) or parameter.name == "help":
                continue
            if parameter.param_type_name == "argument":
                label = parameter.metavar or ""
                label = parameter.name.upper() if "|" in label or not label else label
            else:
                label = ", ".join([*parameter.opts, *parameter.secondary_opts])
            default = parameter.default
            shown = "" if default in (None, False, True) or callable(default) else str(default)
            rows.append([code(label), code(shown), parameter.help or ""])
        if rows:
            parts += [table(["", "default", "meaning"], rows), ""]
    return "\n".join(parts)


def kind_of(schema: Schema, heads: Mapping[str, str]) -> str:
    """A JSON schema's type, in words; `heads` are the sections of the parts that it may refer to."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(one, heads) for one in schema["anyOf"] if one.get("type") != "null"))
    if "enum" in schema or "const" in schema:
        return ", ".join(code(one) for one in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        head = heads[schema["$ref"].rsplit("/", 1)[1]]
        return f"[mapping](#{head.lower().replace('.', '')})"
    extra = schema.get("additionalProperties")
    if schema.get("type") == "object":
        return f"mapping of names to {kind_of(extra, heads)}" if isinstance(extra, dict) and extra else "mapping"
    if "prefixItems" in schema:
        return " and ".join(kind_of(one, heads) for one in schema["prefixItems"])
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}), heads)}"
    word = {"string": "text", "boolean": "true or false", "null": "null", "": "any"}.get(
        kind := schema.get("type", ""), kind
    )
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return ", ".join([word, *(f"{sign} {schema[key]:,}" for key, sign in bounds.items() if key in schema)])


def referred(schema: Schema) -> Iterator[str]:
    """The names of the parts that a schema refers to, in order."""
    for key, value in schema.items():
        if key == "$ref":
            yield value.rsplit("/", 1)[1]
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from referred(one)


def model_page(title: str, intro: str, schema: Schema, *, defaults: bool = True) -> str:
    """A page of a pydantic model: its own keys, then a section for each part, named by the first key that has it."""
    heads: dict[str, str] = {}

    def name_parts(part: Schema, path: str) -> None:
        for key, one in part.get("properties", {}).items():
            for name in referred(one):
                if name not in heads:
                    heads[name] = path + key
                    name_parts(schema["$defs"][name], f"{path}{key}.")

    name_parts(schema, "")
    parts = [f"# {title}", "", intro, "", keys(schema, schema, heads, defaults), ""]
    for name, head in heads.items():
        part = schema["$defs"][name]
        if "properties" in part:
            parts += [f"## {head}", "", part.get("description", ""), "", keys(part, schema, heads, defaults), ""]
    return "\n".join(parts)


def keys(part: Schema, whole: Schema, heads: Mapping[str, str], defaults: bool) -> str:
    needed = part.get("required", [])
    rows: list[list[str]] = []
    for name, one in part.get("properties", {}).items():
        refers = next(referred(one), None)
        default = "needed" if name in needed else "" if refers or one.get("default") is None else code(one["default"])
        meaning = one.get("description") or (whole["$defs"][refers].get("description", "") if refers else "")
        rows.append([code(name), kind_of(one, heads), *([default] if defaults else []), meaning])
    return table(["key", "type", *(["default"] if defaults else []), "meaning"], rows)


RECIPE = """One YAML file holds all that decides a run. Unknown keys are errors that name the nearest known key. Relative paths
start at the recipe's folder. On the command line, `--set train.learning_rate=1e-4` overrides a key."""

REPORT = """`report.json` in the run folder holds what `report.html` shows. `secondnature report RUN` makes both anew. In
Python: `sn.load("runs/mine").report`."""


def report() -> str:
    try:
        from secondnature.report.model import Report
    except ImportError:
        return f"# Report\n\n{REPORT}\n"
    return model_page("Report", REPORT, Report.model_json_schema(), defaults=False)


def options(function: Callable[..., Any]) -> str:
    rows = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = parameter.default
            if default is inspect.Parameter.empty:
                shown = "needed"
            elif isinstance(default, str) and ("\n" in default or len(default) > 60):
                shown = "<br>".join(f"`{line}`" for line in default.replace("`", "'").splitlines() if line)
            else:
                shown = code(default) if isinstance(default, (str, int, float, bool)) else ""
            rows.append([code(parameter.name), shown])
    return table(["option", "default"], rows) if rows else "No options."


def functions(title: str, intro: str, known: Mapping[str, Callable[..., Any]]) -> str:
    parts = [f"# {title}", "", intro, ""]
    for name, function in known.items():
        parts += [f"## {name}", "", summary(function), "", options(function), ""]
    return "\n".join(parts)


def answers() -> str:
    rows = [[code(name), kind.description] for name, kind in KINDS.items()]
    rows.append([code("label"), "one of `answer.labels`"])
    intro = "`answer: {kind: ...}` in a recipe: how answers are asked for and read. One that cannot be read is never guessed."
    return f"# Answer kinds\n\n{intro}\n\n{table(['kind', 'what is read'], rows)}\n"


def pages() -> dict[str, str]:
    techniques = "`technique: {name: ..., OPTION: ...}` in a recipe. What each is for: [Techniques](../techniques.md)."
    tasks = "`task: {name: ..., OPTION: ...}` in a recipe. What each is for: [Tasks](../tasks.md)."
    return {
        "commands": commands(),
        "recipe": model_page("Recipe", RECIPE, Recipe.model_json_schema()),
        "report": report(),
        "techniques": functions("Techniques", techniques, TECHNIQUES),
        "tasks": functions("Tasks", tasks, TASKS),
        "answers": answers(),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
