"""Bad input that needs torch: damaged models, adapters, checkpoints and exports. The cases are run by fuzz.py."""

import contextlib
import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from typer.testing import CliRunner

from fuzz import NAMES, TEXTS, Case, rows
from secondnature.cli import app
from secondnature.train import CONFIG, WEIGHTS
from tiny import TEMPLATE, tiny_model

ENGINE = {"kind": "transformers", "dtype": "float32", "device": "cpu"}
ADAPTER = (WEIGHTS, WEIGHTS, CONFIG, "training.json")
# fmt: off
EDITS: Mapping[str, list[str]] = {  # JSON files of a model or an adapter, and keys whose values matter
    "config.json": [
        "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        "rope_theta", "rope_scaling", "rope_parameters", "dtype", "max_position_embeddings", "architectures", "eos_token_id",
        "pad_token_id", "tie_word_embeddings", "auto_map", "quantization_config", "hidden_act", "rms_norm_eps", "use_cache",
        "sliding_window", "layer_types", "attention_bias", "transformers_version", "_name_or_path",
    ],
    "generation_config.json": [
        "eos_token_id", "pad_token_id", "bos_token_id", "max_new_tokens", "max_length", "do_sample", "temperature", "top_p",
        "top_k", "cache_implementation", "stop_strings", "num_beams", "transformers_version", "_from_model_config", "nosuch",
    ],
    "tokenizer_config.json": [
        "tokenizer_class", "eos_token", "pad_token", "bos_token", "chat_template", "added_tokens_decoder", "model_max_length",
        "additional_special_tokens", "extra_special_tokens", "backend", "auto_map", "clean_up_tokenization_spaces",
        "padding_side", "add_bos_token", "model_input_names",
    ],
    "tokenizer.json": [
        "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model",
    ],
    CONFIG: [
        "r", "lora_alpha", "peft_type", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "bias",
        "modules_to_save", "base_model_name_or_path", "task_type", "fan_in_fan_out", "auto_mapping", "revision", "nosuch",
    ],
    "training.json": [
        "digest", "files", "examples", "steps", "tokens", "seconds", "tokens_per_second", "loss_first", "loss_last", "history",
    ],
}
ODD: list[Any] = [  # values of such keys; none asks for more memory than there is
    None, True, False, 0, -1, 1, 2, 3, 7, 64, 4096, 10**18, -(10**18), 0.5, -0.5, 1e308, "", "x", "two", "auto", "float16",
    "llama", "gemma", "mistral", "t5", "bert", "qwen3", "foo", "<|im_end|>", "<|im_start|>", "<|nosuch|>", "\x00", "\ud800", [],
    [None], [0], [-1], ["x"], [259, 0], [10**18], [[1]], {}, {"x": 1}, {"rope_type": "yarn"}, {"type": "linear", "factor": 0},
    {"quant_method": "bitsandbytes"}, {"AutoModelForCausalLM": "evil.M"}, {"type": "BPE"}, {"0": {"content": "a"}}, "{{ x }}",
    "a" * 5000, {WEIGHTS: "x"}, {WEIGHTS: None, CONFIG: 1}, [{"step": 1, "loss": "x"}], [{"step": 1, "loss": 1.0}, 3],
]
TEMPLATES = [
    "", " \n", "Hello.", "{% for x in %}", "{{ raise_exception('no') }}", "{{ nosuch.x }}", "{{ messages }}", "{{ 1 / 0 }}",
    "{{ messages[0]['content'] }}", "{{ messages[-1].content }}<|im_end|>", "{{ messages[9].content }}", "{{ ''.join }}",
    "{% if messages[0].role == 'system' %}{{ raise_exception('x\ny') }}{% endif %}" + TEMPLATE,
    TEMPLATE.replace("<|im_end|>", ""), TEMPLATE.replace("<|im_end|>", "<|nosuch|>"), TEMPLATE + "{{ nosuch() }}",
    "\x00" + TEMPLATE, TEMPLATE * 50, "{" * 3000,
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% include 'x' %}", "{% import 'os' as os %}", "{{ cycler.__init__ }}",
    "{{ messages | tojson }}", "{{ strftime_now('%Q') }}", "{{ self.x() }}", "{{ range(999999999) | list }}", TEMPLATE[:60],
    "{% if messages[-1].role == 'assistant' %}{{ raise_exception('x') }}{% endif %}" + TEMPLATE,
    "{{ messages[0].content[::-1] }}",
    "{{ messages[0].content[:30] }}", "{{ messages | map(attribute='content') | join('\ud83d') }}", "{{ 'é' }}" + TEMPLATE,
]
# fmt: on


# --- what is spoilt, made once


@cache
def _place() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-models-"))


@cache
def model() -> Path:
    return tiny_model(_place() / "model", stops=True)


def recipe_of(folder: Path, base: Path, **sections: Any) -> Path:
    """Data and a recipe for a model in `folder`; a tiny model's samples seldom agree, and none is discarded for that."""
    (folder / "train.jsonl").write_text(rows(6))
    (folder / "test.jsonl").write_text(rows(3).replace("Is 3", "Was 3"))
    (folder / "mine.py").write_text(
        "async def f(example, ask):\n    return 'yes' if len(await ask('x')) % 9 else 'no'\n"
    )
    content: dict[str, Any] = {
        "model": str(base),
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "answer": {"kind": "yes_no"},
        "technique": {"name": "mine.py:f"},
        "sampling": {"n": 2, "temperature": 1.0, "max_tokens": 24},
        "verify": {"min_agreement": 0.1},
        "train": {"max_steps": 4, "save_steps": 1, "per_device_train_batch_size": 2, "lora_r": 4},
        "evaluate": {"latency_prompts": 0, "regression": False, "contamination": False},
        "engine": ENGINE,
        **sections,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


@cache
def trained() -> Path:
    """A run folder whose adapter was trained, measured and told of."""
    recipe = recipe_of(_place(), model())
    done = CliRunner().invoke(
        app, ["distill", str(recipe), "--out", str(_place() / "run"), "--quiet", "--anyway", "--trust"]
    )
    assert done.exit_code == 0, done.output
    assert (_place() / "run" / "adapter" / WEIGHTS).exists(), done.output
    _settle(_place() / "run")
    return _place() / "run"


@cache
def stopped() -> Path:
    """A run folder as Ctrl-C in its training leaves it, with two checkpoints."""
    from secondnature.train import seal

    def stop_after_two(checkpoint: Path) -> None:
        seal(checkpoint)
        if checkpoint.name.endswith("-2"):
            raise KeyboardInterrupt

    folder = _place() / "stopped"
    shutil.copytree(trained(), folder)
    shutil.rmtree(folder / "adapter")
    with patch("secondnature.train.seal", stop_after_two):
        assert CliRunner().invoke(app, ["train", str(folder), "--quiet"]).exit_code == 130
    assert [*folder.glob("checkpoints/*/checkpoint-2")]
    return folder


def _settle(run: Path) -> None:
    with contextlib.closing(sqlite3.connect(run / "calls.sqlite")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def prepare() -> None:
    """Make what the cases share: a case's time does not count it."""
    stopped()


def remove() -> None:
    shutil.rmtree(_place(), ignore_errors=True)


# --- ways to spoil a file


def spoil(case: Case, file: Path) -> None:
    """Damage a file as a disk, a person or an attacker would."""
    content = file.read_bytes()
    case.said.append(f"spoilt: {file.name}")
    edits, loaded = EDITS.get(file.name, []), None
    with contextlib.suppress(ValueError, RecursionError):
        loaded = json.loads(content) if edits else None
    chance = case.random.random()
    if isinstance(loaded, dict) and chance < 0.6:
        for _ in range(case.pick([1, 1, 2, 3])):
            name, value = case.pick(edits), case.pick(ODD)
            case.said.append(f"{name} = {str(value)[:80]!r}")
            if case.random.random() < 0.2:
                loaded.pop(name, None)
            else:
                loaded[name] = value
        file.write_text(json.dumps(loaded))
    elif file.suffix == ".safetensors" and chance < 0.5:
        with contextlib.suppress(ValueError, TypeError, AttributeError):  # spoilt before
            content = _other_header(case, content)
        file.write_bytes(content)
    elif file.suffix == ".jinja" and chance < 0.8:
        template = case.pick(TEMPLATES)
        case.said.append(template[:200])
        file.write_text(template, "utf-8", "surrogatepass")
    elif chance < 0.68:
        file.unlink()
        match case.random.randrange(3):
            case 0:
                pass
            case 1:
                file.mkdir()
            case _:
                file.symlink_to(case.pick(["loop", file.name, "/dev/null", "nothing"]))
    elif chance < 0.76:
        file.write_bytes(case.pick(TEXTS).encode("utf-8", "surrogatepass"))
    else:
        file.write_bytes(case.spoilt(content))


def _other_header(case: Case, content: bytes) -> bytes:
    """Safetensors whose header says something else of the same bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    for _ in range(case.pick([1, 1, 3])):
        name = case.pick(names)
        match case.random.randrange(6):
            case 0:
                header.pop(name, None)
            case 1:
                header[case.pick([name + "x", "x", "__metadata__", ""])] = header.get(name, {})
            case 2 if name in header:
                header[name]["dtype"] = case.pick(["F16", "F64", "BF16", "I8", "I64", "BOOL", "X", "F8_E4M3", 3])
            case 3 if name in header:
                header[name]["shape"] = case.pick(
                    [[], [1], [0], [10**18], [-1], header[name]["shape"][::-1], [2.5], "x"]
                )
            case 4 if name in header:
                header[name]["data_offsets"] = case.pick([[0, 0], [0, 10**18], [-1, 4], [4, 0], [0, 4], "x"])
            case _:
                header[name] = case.pick([None, 1, [], {}])
    written = json.dumps(header).encode()
    size = len(written) if case.random.random() < 0.9 else case.pick([0, 10**18, len(written) // 2])
    return size.to_bytes(8, "little") + written + content[8 + length :]


def believed(adapter: Path) -> None:
    """Give the adapter the digests of its files as they are now, as who changed them on purpose would."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        summary = json.loads((adapter / "training.json").read_text())
        files = summary.get("files", {})
        for name in (WEIGHTS, CONFIG):
            files[name] = hashlib.sha256((adapter / name).read_bytes()).hexdigest()
        (adapter / "training.json").write_text(json.dumps({**summary, "files": files}))


def copied_run(case: Case, run: Path) -> Path:
    return Path(shutil.copytree(run, case.folder / "run"))


# --- the families


def model_folders(case: Case) -> None:
    base = Path(shutil.copytree(model(), case.folder / "model"))
    for _ in range(case.pick([1, 1, 1, 2])):
        spoil(case, case.pick([file for file in sorted(base.iterdir()) if file.is_file() and not file.is_symlink()]))
    kind = "auto" if case.random.random() < 0.08 else "transformers"  # OpenVINO takes a second to convert one
    dtype = case.pick(["float32", "float32", "bfloat16", "float16", "auto"])
    recipe = recipe_of(
        case.folder, base, engine={"kind": kind, "dtype": dtype, "device": "cpu"}, technique={"name": "cot"}
    )
    case.cli("sample", case.folder / "run", "--recipe", recipe, "--limit", "1", "--quiet")


def gguf_files(case: Case) -> None:
    file = case.folder / "m.gguf"
    content = _gguf()
    file.write_bytes(
        case.pick([case.spoilt(content), content[: case.random.randrange(len(content))], b"GGUF" + content])
    )
    recipe = recipe_of(case.folder, file)
    case.cli("sample", case.folder / "run", "--recipe", recipe, "--limit", "1", "--quiet")


@cache
def _gguf() -> bytes:
    from gguf import GGUFWriter

    path = _place() / "whole.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "<|im_start|>", "<|im_end|>"])
    writer.add_token_merges([])
    writer.add_eos_token_id(3)
    writer.add_chat_template(TEMPLATE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path.read_bytes()


def adapters(case: Case) -> None:
    run = copied_run(case, trained())
    spoil(case, run / "adapter" / case.pick(ADAPTER))
    if case.random.random() < 0.5:
        believed(run / "adapter")
    weights = (trained() / "adapter" / WEIGHTS).read_bytes()
    commands: list[list[Any]] = [["export", run], ["export", run, "--merged"], ["evaluate", run, "--quiet"]]
    commands += [["report", run, "--quiet"], ["ask", run, "Is it?", "--quiet"], ["ask", run, "Is it?", "--compare"]]
    for command in case.random.sample(commands, 2):
        case.cli(*command)
    told = json.loads((trained() / "adapter" / "training.json").read_text())["files"]
    if (exported := run / "export" / WEIGHTS).is_file() and exported.read_bytes() != weights:
        summary = json.loads((run / "adapter" / "training.json").read_text())
        assert summary.get("files") != told, "a damaged adapter was exported as the one that was measured"


def checkpoints(case: Case) -> None:
    run = copied_run(case, stopped())
    files = [file for file in sorted((run / "checkpoints").rglob("*")) if file.is_file()]
    for file in case.random.sample(files, case.pick([1, 1, 3])):
        spoil(case, file)
    if case.random.random() < 0.2:
        place = case.pick([run / "checkpoints", *(run / "checkpoints").iterdir()])
        shutil.rmtree(place)
        case.pick([place.touch, lambda: place.symlink_to("nothing"), place.mkdir])()
    case.cli("train", run, "--quiet")


def exports(case: Case) -> None:
    """Onto odd things, of damaged runs: what lies beside an export is never lost."""
    run = copied_run(case, trained())
    spoil_it: Callable[[], None] = lambda: spoil(  # noqa: E731
        case, run / case.pick(["curated.jsonl", "discarded.jsonl", "report.json", "run.json", "recipe.yaml"])
    )
    out = case.folder / "out"
    place = case.random.randrange(8)
    if place in (1, 2):
        case.cli("export", run, "--out", out, "--dataset-only")
    if place in (2, 3):
        out.mkdir(exist_ok=True)
        (out / case.pick(["export.json", "README.md", "mine.txt", "mine"])).write_text(
            case.pick(TEXTS), "utf-8", "replace"
        )
    if place == 4:
        out.symlink_to(case.pick(["loop", "out", "run", "nothing", "/dev/null"]))
    if place == 5:
        out.write_text("mine")
    name: Any = out if place < 6 else case.pick(["run", "run/adapter", ".", "..", "run/export", "test.jsonl/x", *NAMES])
    (case.folder / "mine").mkdir()
    (case.folder / "mine" / "thesis.tex").write_text("mine")
    (case.folder / "out.partial").write_text("mine")
    if case.random.random() < 0.5:
        spoil_it()
    before = _contents(case.folder)
    options = [
        ["--dataset-only"],
        ["--dataset-only"],
        [],
        ["--merged"],
        ["--gguf", "--converter", "nothing"],
        ["--base", "x"],
    ]
    options += [["--push-to-hub", "x"], ["--merged", "--dataset-only"]]
    with contextlib.chdir(case.folder):
        case.cli("export", run, f"--out={name}", *case.pick(options))
    after = _contents(case.folder)
    target = (case.folder / str(name).replace("\x00", "")).resolve() if place != 4 else case.folder / "out"
    lost = [path for path in before if after.get(path) != before[path] and target not in (case.folder / path).parents]
    assert not [path for path in lost if path != "run/run.json"], f"lost or changed: {lost[:5]}"
    left = [path for path in after if path.startswith(".out.")]
    assert not left, f"left over: {left[:5]}"


def _contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder that are no links, but for what every command may write."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    ours = (".lock", "calls.sqlite-shm", "calls.sqlite-wal")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.name not in ours}


FAMILIES: Mapping[Callable[[Case], None], int] = {
    model_folders: 10,
    adapters: 8,
    exports: 8,
    checkpoints: 1,
    gguf_files: 3,
}
