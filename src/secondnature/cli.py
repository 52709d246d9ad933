"""The command line. Heavy imports are inside the commands, so that help comes at once."""

import contextlib
import errno
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from secondnature.types import UserError

if TYPE_CHECKING:
    from secondnature.recipe import Recipe


class _Commands(TyperGroup):
    """The commands. Whatever a user can put right, a wrong command line too, is one line and exit code 2."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **options: Any) -> Any:
        args = sys.argv[1:] if args is None else args
        self.again = _command(*args)
        try:
            for argument in args:
                argument.encode()
            code = super().main(args or ["--help"], *rest, standalone_mode=False, **options)
        except UnicodeEncodeError:
            code = _refuse("an argument is no UTF-8 text: give the file or folder a name that is")
        except Exception as error:
            described: Callable[[], str] | None = getattr(error, "format_message", None)
            if described is None:  # not the parser's, whose class typer keeps to itself
                raise
            context = getattr(error, "ctx", None)
            hint = f" (see {context.command_path} --help)" if context is not None else ""
            message = described()
            code = _refuse(message[:1].lower() + message[1:].rstrip(".") + hint)
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        with _plain_errors(self.again):
            return super().invoke(ctx)


@contextlib.contextmanager
def _plain_errors(again: str) -> Generator[None]:
    """One line and exit code 2 for what the user can put right; 130 for Ctrl-C, saying how to go on."""
    try:
        yield
    except UserError as error:
        raise typer.Exit(_refuse(str(error))) from None
    except KeyboardInterrupt as stop:
        typer.echo(f"\nstopped; {stop or 'everything drawn so far is stored'}. To go on: {again}", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        if error.errno in (None, errno.EPIPE):
            raise
        from secondnature.untrusted import cut

        where = cut(str(error.filename or "writing"), 200)
        message = f"{where}: {error.strerror}: put that right and go on with: {again}"
        raise typer.Exit(_refuse(message)) from None


def _refuse(message: str) -> int:
    """Say in one line what is wrong; returns the exit code."""
    from secondnature.untrusted import cut, one_line

    typer.echo("error: " + cut(one_line(message)), err=True)
    return 2


def _command(*words: str | Path) -> str:
    return shlex.join(["secondnature", *map(str, words)])


app = typer.Typer(
    cls=_Commands,
    help="Distil a model's slow, deliberate answers (System 2) into fast ones (System 1): no labels, no bigger teacher.",
    pretty_exceptions_enable=False,
)

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
RunFolder = Annotated[Path, typer.Argument(help="The run folder.", metavar="RUN")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: --set train.learning_rate=1e-4", metavar="KEY=VALUE")
]
Limit = Annotated[int | None, typer.Option(help="Cut train, dev and test to this many prompts each.", min=1)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Yes to the Python that the recipe names, and to sending keys where it says; remembered."
    ),
]
OfRecipe = Annotated[
    Path | None, typer.Option("--recipe", help="Make the folder from this recipe, or give it this one.")
]
OutOfDistill = Annotated[Path | None, typer.Option("--out", hidden=True)]  # to say what is meant where it is given

FIRST, STAGES, AFTER = "To begin with", "The stages, one by one", "What came of it"  # the panels of the help


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"secondnature {version('secondnature')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _agree(recipe: "Recipe", given: bool) -> None:
    """Remember the user's yes to what the recipe needs one for, from the command line or to a question on a terminal."""
    from secondnature.trust import missing, remember
    from secondnature.untrusted import plain

    lacking = missing(recipe)
    if lacking and not given and sys.stdin.isatty() and sys.stderr.isatty():
        for need in lacking:
            typer.echo(f"this recipe wants to {plain(need.what)}", err=True)
        given = typer.confirm("do you trust it?", err=True)
    if given:
        remember(lacking)


@app.command(rich_help_panel=FIRST)
def init(
    kind: Annotated[str, typer.Argument(metavar="classifier|judge|extractor|qa", help="What your step is.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; one called like the kind unless given.")
    ] = None,
) -> None:
    """Write a recipe with a comment on each key, and sample data: something that runs, to put your own into."""
    from secondnature.start import write_starter

    folder = out or Path(kind)
    for path in write_starter(kind, folder):
        typer.echo(f"wrote {path}")
    recipe = folder / "recipe.yaml"
    typer.echo(f"next: {_command('look', recipe)}     (a first look, before anything is paid for)")
    typer.echo(f"then: {_command('distill', recipe, '--out', Path('runs') / folder.name)}")


@app.command(rich_help_panel=FIRST)
def demo(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/demo"),
    sets: Sets = None,
    limit: Limit = None,
    quiet: Quiet = False,
) -> None:
    """Teach a real 135M model to answer capitals whatever the user believes: five to ten minutes on two CPU cores."""
    from secondnature.stages import distill as run_all
    from secondnature.start import DEMO

    run_all(DEMO, out, sets=sets or [], limit=limit, quiet=quiet)


@app.command(rich_help_panel=FIRST)
def distill(
    recipe: RecipeFile,
    out: Annotated[Path, typer.Option(help="The run folder. Rerunning the same command goes on where it stopped.")],
    sets: Sets = None,
    limit: Limit = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan, without a call: prompts, samples, calls, expected tokens."),
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Go on where most of System 2's first answers cannot be read.")
    ] = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """The whole method: sample, verify, train, evaluate, report."""
    from secondnature.recipe_file import load_recipe

    loaded = load_recipe(recipe, sets or [], limit)
    if trust or not dry_run:
        _agree(loaded, trust)
    if dry_run:
        from secondnature.plan import counted_cost, plan
        from secondnature.resolve import prepare

        resolved = prepare(loaded, lambda line: typer.echo(line, err=True))
        for name, figures in plan(loaded, resolved, counted_cost(loaded, resolved)):
            typer.echo(f"{name:<16} {figures}")
    else:
        from secondnature.stages import distill as run_all

        run_all(loaded, out, quiet=quiet, anyway=anyway)


@app.command(rich_help_panel=FIRST)
def look(
    recipe: RecipeFile,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder, where distill finds the calls again; runs/NAME of the recipe unless given."),
    ] = None,
    sets: Sets = None,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """A first look, before a run is paid for: what can be read, whether System 2 is better, what would be kept, what to mend."""
    from secondnature.first_look import look_lines, look_table
    from secondnature.progress import Display
    from secondnature.recipe_file import load_recipe
    from secondnature.stages import look as look_at
    from secondnature.untrusted import path_of

    name = path_of(str(recipe)).parent.name if recipe.stem == "recipe" else recipe.stem
    out = out or Path("runs") / name
    loaded = load_recipe(recipe, sets or [])
    _agree(loaded, trust)
    found = look_at(loaded, out, quiet=quiet)
    overrides = [word for pair in sets or [] for word in ("--set", pair)]
    following = "Next: " + _command("distill", recipe, "--out", out, *overrides)
    Display(quiet=quiet).result(look_table(found), "\n".join([*look_lines(found), following]))


def _stage(
    name: str,
    folder: Path,
    sets: list[str] | None,
    limit: int | None,
    quiet: bool,
    *,
    recipe: Path | None = None,
    out: Path | None = None,
    trust: bool | None = None,
    **options: bool,
) -> None:
    """Run a stage on a run folder; `trust` is None for a stage that draws nothing."""
    if folder.is_file() or out is not None:
        file, target = (folder, out or "RUN") if folder.is_file() else (recipe or "RECIPE", out or "RUN")
        starts = name in ("sample", "evaluate")
        right = (name, target, "--recipe", file) if starts else ("distill", file, "--out", target)
        raise UserError(f"{name} takes the run folder first, and a recipe by its name: {_command(*right)}")
    from secondnature import stages
    from secondnature.context import open_context
    from secondnature.progress import Display
    from secondnature.recipe_file import load_recipe
    from secondnature.run import open_run

    display = Display(quiet=quiet)
    changed = recipe is not None or sets or limit is not None
    loaded = load_recipe(recipe or folder / "recipe.yaml", sets or [], limit) if changed else None
    with open_run(folder, loaded, display.say) as run, open_context(run, display) as context:
        if trust is not None:
            _agree(run.recipe, trust)
        stage: Callable[..., None] = getattr(stages, name)
        stage(context, **options)


@app.command(rich_help_panel=STAGES)
def sample(
    run: RunFolder,
    recipe: OfRecipe = None,
    sets: Sets = None,
    limit: Limit = None,
    trust: Trust = False,
    quiet: Quiet = False,
    out: OutOfDistill = None,
) -> None:
    """Draw System 2's samples of every training prompt into the store."""
    _stage("sample", run, sets, limit, quiet, recipe=recipe, out=out, trust=trust)


@app.command(rich_help_panel=STAGES)
def verify(run: RunFolder, sets: Sets = None, limit: Limit = None, quiet: Quiet = False) -> None:
    """Keep the answers that the model agrees with itself about: curated.jsonl and discarded.jsonl."""
    _stage("verify", run, sets, limit, quiet)


@app.command(rich_help_panel=STAGES)
def train(
    run: RunFolder,
    sets: Sets = None,
    limit: Limit = None,
    trust: Trust = False,
    quiet: Quiet = False,
    edited: Annotated[
        bool,
        typer.Option("--edited", help="Train on curated.jsonl as it is now, edited by hand since verify wrote it."),
    ] = False,
) -> None:
    """Fine-tune a LoRA adapter on the kept answers."""
    _stage("train", run, sets, limit, quiet, trust=trust, edited=edited)


@app.command(rich_help_panel=STAGES)
def evaluate(
    run: RunFolder,
    recipe: OfRecipe = None,
    sets: Sets = None,
    limit: Limit = None,
    trust: Trust = False,
    quiet: Quiet = False,
    out: OutOfDistill = None,
) -> None:
    """Draw every system's answers to the test prompts; before anything is sampled, of System 1 and System 2 alone."""
    _stage("evaluate", run, sets, limit, quiet, recipe=recipe, out=out, trust=trust)


@app.command(rich_help_panel=STAGES)
def report(run: RunFolder, quiet: Quiet = False) -> None:
    """Write report.json and report.html from what is there, and print the table."""
    _stage("report", run, None, None, quiet)


@app.command(rich_help_panel=AFTER)
def ask(
    run: RunFolder,
    prompt: Annotated[
        str | None,
        typer.Argument(help="The prompt; - takes prompts from standard input, one a line.", metavar="PROMPT"),
    ] = None,
    system: Annotated[
        int | None,
        typer.Option(help="Ask System 1 (the model without the adapter) or 2 (with the technique).", min=1, max=2),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show all three, with their tokens and milliseconds.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Answer a file of prompts, as JSON Lines: one a line in .txt; rows in .jsonl, .csv, .parquet."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the JSON Lines to this file; the same command goes on where it stopped.")
    ] = None,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Ask the distilled model, and print its answer; nothing is stored."""
    from secondnature.ask import STDIN, answer_file, answer_one, compare_systems
    from secondnature.progress import Display
    from secondnature.use import load, named

    source = STDIN if prompt == "-" else file
    if (prompt is None) == (file is None) or (out and not source) or (compare and (source or system)):
        raise UserError(
            'ask: give one prompt ("..."), or - for standard input, or --file; --out goes with the latter two, '
            "--compare with one prompt and without --system"
        )
    display = Display(quiet=quiet)
    with load(run) as opened:
        if trust or compare or system == 2:
            _agree(opened.recipe, trust)
        if not system and (notice := opened.notice):
            display.say(notice)
        if source is not None:
            answer_file(opened, source, named(system), out, display)
        elif compare:
            compare_systems(opened, prompt or "", display)
        else:
            answer_one(opened, prompt or "", named(system), display)


@app.command(rich_help_panel=AFTER)
def export(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="The folder to write; RUN/export unless given.")] = None,
    merged: Annotated[bool, typer.Option("--merged", help="Base and adapter in one, instead of the adapter.")] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="A GGUF file for llama.cpp too, by its converter.")] = False,
    converter: Annotated[Path | None, typer.Option(help="llama.cpp's convert_hf_to_gguf.py.")] = None,
    dataset_only: Annotated[bool, typer.Option("--dataset-only", help="Only the training set: no weights.")] = False,
    base: Annotated[
        str | None, typer.Option(help="The base's hub id, where the recipe names a file or folder.")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Push all but the dataset to this model repository.", metavar="OWNER/NAME")
    ] = None,
    dataset_repo: Annotated[
        str | None, typer.Option(help="Push the dataset to this dataset repository.", metavar="OWNER/NAME")
    ] = None,
    private: Annotated[bool, typer.Option("--private/--public", help="Who sees a repository that is made.")] = True,
) -> None:
    """Write what others can use: weights, a model card, the training set; and push it to the Hugging Face hub."""
    from secondnature.export.build import ExportOptions
    from secondnature.export.build import export as write_export
    from secondnature.run import open_run

    wanted = ExportOptions(merged, dataset_only, gguf, converter, base, push_to_hub, dataset_repo, private)
    with open_run(run, None) as opened:
        pushed = write_export(opened, out or run / "export", wanted, typer.echo)
    typer.echo("\n".join([str(out or run / "export"), *pushed]))


@app.command(rich_help_panel=AFTER)
def view(
    run: RunFolder,
    second: Annotated[Path | None, typer.Argument(help="Another run, to compare with.", metavar="RUN2")] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at: this machine's own unless given. At another, all who reach it can read."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes any that is free.", min=0, max=65535)] = 7860,
) -> None:
    """Look at a run in the browser, also while it is going; at two of them side by side."""
    try:
        from secondnature.view.app import serve
    except ModuleNotFoundError as error:
        raise UserError(f"the view needs {error.name}: pip install 'secondnature[view]'") from None
    with contextlib.suppress(KeyboardInterrupt):
        serve([run, *([second] if second else [])], host, port, typer.echo)


@app.command(rich_help_panel=AFTER)
def salvage(
    store: Annotated[Path, typer.Argument(help="The file calls.sqlite, or the run folder that it is in.")],
) -> None:
    """Save what can be read of a store, damaged or an older version's, into a new one in its place; the old one is kept."""
    from secondnature.salvage import salvage as save

    saved, old = save(store / "calls.sqlite" if store.is_dir() else store)
    typer.echo(f"saved {saved:,} calls; the old store is now {old}; what is missing is drawn again")


@app.command(rich_help_panel=FIRST)
def techniques() -> None:
    """What System 2 techniques there are, with their options."""
    from secondnature.techniques import TECHNIQUES, option_names

    for name, function in TECHNIQUES.items():
        summary = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        typer.echo(f"{name:<8} {summary}\n         options: {', '.join(option_names(function)) or 'none'}")
    typer.echo('Your own: technique: {name: "file.py:function"}, an async function (example, ask, *, options) -> str.')


@app.command(rich_help_panel=FIRST)
def tasks() -> None:
    """What built-in tasks there are, with their options, and what kinds of answers."""
    from secondnature.tasks import KINDS, TASKS, option_names

    for name, function in TASKS.items():
        summary = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        typer.echo(f"{name:<17} {summary}\n{'':<17} options: {', '.join(option_names(name)) or 'none'}")
    typer.echo("Your own prompts: data: {train: my.jsonl, test: my_test.jsonl}, with answer: {kind: ...}, one of")
    for name, kind in KINDS.items():
        typer.echo(f"  {name:<11} {kind.description}")
    typer.echo("  label       one of answer.labels")


@app.command(rich_help_panel=FIRST)
def doctor(
    online: Annotated[bool, typer.Option("--online", help="Ask whether the model hub answers.")] = False,
) -> None:
    """What this machine can run, what is missing, and what to do next."""
    from secondnature.doctor import examine

    lines, ready = examine(online=online)
    for name, value in lines:
        typer.echo(f"{name:<14} {value}")
    if not ready:
        raise typer.Exit(1)


def main() -> None:
    app()


if __name__ == "__main__":
    sys.exit(main())
