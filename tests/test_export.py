"""An export is what the run made, readable by the libraries that it names, and nothing of this machine."""

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

import secondnature as sn
from conftest import Finished
from hub_server import TOKEN, Hub, serving
from reports import full
from secondnature.engines.models import PublicName, public_name
from secondnature.export.hub import folder_licence
from secondnature.export.markdown import cell, fenced
from secondnature.report.fields import system_name

datasets = pytest.importorskip("datasets")
torch = pytest.importorskip("torch")

from secondnature.export.weights import convert, find_converter, modelfile  # noqa: E402
from secondnature.stages import distill  # noqa: E402
from secondnature.types import Decoding, Message, Request  # noqa: E402
from tiny import tiny_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("trusting")

Cli = Callable[..., Finished]
HOSTILE = "<b>|x|</b> `y` [z](http://a)\n# no"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of a tiny model, made once; a test that changes it copies it."""
    folder = tmp_path_factory.mktemp("secret-place")
    model = tiny_model(folder / "tiny-base", stops=True)
    (model / "LICENSE").write_text("Apache License\nVersion 2.0, January 2004\n")
    for part, count in (("train", 24), ("test", 10)):
        rows = [{"prompt": f"{part} {i}: yes or no? {HOSTILE}", "answer": "yes"} for i in range(count)]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "one.py").write_text(
        "async def noisy(example, ask):\n"
        "    reply = await ask(example.text)\n"
        "    return 'yes' if len(reply) % 4 else 'no'\n"
    )
    (folder / "recipe.yaml").write_text(f"""
model: {model}
data: {{train: train.jsonl, test: test.jsonl, system: "Be ``` brief"}}
answer: {{kind: yes_no}}
technique: {{name: "one.py:noisy"}}
sampling: {{n: 3, temperature: 1.0, max_tokens: 8}}
verify: {{min_agreement: 0.6}}
train: {{num_train_epochs: 6, learning_rate: 1.0e-2, per_device_train_batch_size: 4, lora_r: 5}}
evaluate: {{latency_prompts: 0}}
engine: {{kind: transformers, dtype: float32, device: cpu}}
""")
    distill(folder / "recipe.yaml", folder / "run", quiet=True, trust=True)
    return folder / "run"


@pytest.fixture
def exported(finished: Path, tmp_path: Path, cli: Cli) -> Path:
    done = cli("export", finished, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "out"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    with serving() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def replies(model: Any, tokenizer: Any, prompts: list[list[dict[str, str]]]) -> list[str]:
    from secondnature.engines.chat import encode

    texts: list[str] = []
    for turns in prompts:
        ids = torch.tensor([encode(tokenizer, [Message(**turn) for turn in turns])])  # pyright: ignore
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


@pytest.mark.model
def test_adapter_and_merged_model_write_what_the_runs_engine_writes(
    finished: Path, exported: Path, tmp_path: Path, cli: Cli
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from secondnature.engines.models import locate
    from secondnature.engines.transformers import TransformersEngine

    base = finished.parent / "tiny-base"
    prompts = [json.loads(line)["prompt"] for line in (finished / "curated.jsonl").read_text().splitlines()][:5]
    engine = TransformersEngine(locate(str(base)), dtype="float32", device="cpu")
    engine.load_adapter("a", str(finished / "adapter"))

    async def ask(adapter: str | None) -> list[str]:
        requests = [
            Request(tuple(Message(**turn) for turn in turns), Decoding(max_tokens=8), None, adapter)
            for turns in prompts
        ]
        return [reply.text for reply in await asyncio.gather(*map(engine.reply, requests))]

    expected, plain = asyncio.run(ask("a")), asyncio.run(ask(None))
    engine.close()
    assert expected != plain, "the adapter must change something, or this test shows nothing"
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert replies(PeftModel.from_pretrained(model, str(exported)), tokenizer, prompts) == expected

    done = cli("export", finished, "--out", tmp_path / "whole", "--merged")
    assert done.returncode == 0, done.stderr
    assert "merged: 8 of 8 greedy answers" in done.stdout
    whole: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    own: Any = AutoTokenizer.from_pretrained(tmp_path / "whole")
    assert own.chat_template == tokenizer.chat_template
    assert replies(whole, own, prompts) == expected
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "8 of 8 greedy answers" in card
    assert "library_name: transformers" in card
    assert "vllm serve . --served-model-name run" in card
    assert not [p.name for p in finished.parent.iterdir() if p.name.endswith(".partial")]
    moved = tmp_path / "moved"
    shutil.copytree(finished, moved)
    with sn.load(moved) as run:
        assert [one.text for one in run.ask(prompts)] == expected, "asking gives what the export gives"
        assert [one.text for one in run.ask(prompts, system=1)] == plain
        assert run(prompts[0]) == expected[0]
        assert run.notice is None
    (moved / "curated.jsonl").write_text((moved / "curated.jsonl").read_text().partition("\n")[2])
    assert "was trained on something else" in (sn.load(moved).notice or "")
    assert cli("ask", moved, prompts[0][-1]["content"]).stdout == f"{expected[0]}\n"


def test_nothing_of_this_machine_is_in_an_export(exported: Path, finished: Path) -> None:
    texts = [p for p in exported.rglob("*") if p.suffix in {".json", ".jsonl", ".yaml", ".md", ".html"}]
    assert len(texts) >= 8
    for path in texts:
        assert "secret-place" not in path.read_text(), path.name
    assert "secret-place" in (finished / "recipe.yaml").read_text()
    recipe = yaml.safe_load((exported / "recipe.yaml").read_text())
    assert (recipe["model"], recipe["data"]["train"]) == ("tiny-base", "train.jsonl")
    assert recipe["technique"]["name"] == "one.py:noisy"
    assert json.loads((exported / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-base"


def test_no_path_of_a_recipe_is_in_an_export_whatever_key_it_is_at(finished: Path, tmp_path: Path, cli: Cli) -> None:
    run, client = tmp_path / "run", tmp_path / "client_acme"
    shutil.copytree(finished, run)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["evaluate"] |= {
        "regression": f"{client}/general.jsonl", "perturb": [f"{client}/own.py:change"],
        "lm_eval": {"tasks": ["t"], "include_path": f"{client}/tasks"}, "baselines": {"b": {"name": f"{client}/own.py:other"}},
    }  # fmt: skip
    recipe |= {"store": f"{client}/calls.sqlite", "verify": {**recipe["verify"], "perturb": [f"{client}/own.py:again"]}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    report = json.loads((run / "report.json").read_text())
    report["regression"] = full()["regression"]
    report["regression"]["general"]["source"] = f"{client}/general.jsonl"
    (run / "report.json").write_text(json.dumps(report))
    assert cli("export", run).returncode == 0
    for path in (p for p in (run / "export").rglob("*") if p.suffix in {".json", ".yaml", ".md", ".html"}):
        assert "client_acme" not in path.read_text(), path.name
    written = yaml.safe_load((run / "export" / "recipe.yaml").read_text())
    assert written["evaluate"]["regression"] == "general.jsonl"
    assert written["evaluate"]["lm_eval"]["include_path"] == "tasks"
    assert written["evaluate"]["perturb"] == ["own.py:change"]


def test_the_runs_own_adapter_names_its_base_without_a_path(finished: Path) -> None:
    texts = {p.name: p.read_text() for p in (finished / "adapter").iterdir() if p.suffix in {".json", ".md"}}
    assert set(texts) == {"adapter_config.json", "training.json"}
    assert json.loads(texts["adapter_config.json"])["base_model_name_or_path"] == "tiny-base"
    assert not [name for name, text in texts.items() if "secret-place" in text]


@pytest.mark.parametrize(
    ("model", "weights", "name"),
    [
        ("bundled:smollm2-135m", "", PublicName("HuggingFaceTB/SmolLM2-135M-Instruct", True)),
        ("org/model", "org/model@abc", PublicName("org/model", True, "abc")),
        ("org/model", "0123", PublicName("org/model", True)),
        ("/gone/from/here/mine", "0123", PublicName("mine", False)),
        ("/gone/from/here/mine.gguf", "0123", PublicName("mine.gguf", False)),
        (f"models--org--model/snapshots/{'a' * 40}", "", PublicName("org/model", True, "a" * 40)),
    ],
)
def test_the_public_name_of_a_model(
    model: str, weights: str, name: PublicName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"models--org--model/snapshots/{'a' * 40}").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public_name(model, weights) == name


COMMANDS = {  # the programs that a card names, and their options that it may use
    "cd": set[str](),
    "hf": {"--local-dir"},
    "vllm": {"--enable-lora", "--lora-modules", "--max-lora-rank", "--served-model-name"},
    "llama-server": {"--model", "--jinja", "--temp"},
    "ollama": {"-f"},
}


def blocks(text: str, language: str) -> list[str]:
    return [block for _, block in re.findall(rf"^(`{{3,}}){language}\n(.*?)^\1$", text, re.DOTALL | re.MULTILINE)]


def on_the_hub(cache: Path, name: str, model: Path) -> None:
    """Put a model where huggingface_hub keeps what it has fetched under that name."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(model, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)


@pytest.mark.model
@pytest.mark.parametrize("options", [(), ("--merged",)])
def test_what_the_card_says_to_run_runs_word_for_word(
    options: tuple[str, ...], finished: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out"
    assert cli("export", finished, "--out", out, "--base", "owner/base", *options).returncode == 0
    on_the_hub(tmp_path / "hub", "owner/base", finished.parent / "tiny-base")
    hub = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "data")}
    env = {**os.environ, **hub}
    text = (out / "README.md").read_text()
    [snippet] = blocks(text, "python")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=out, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with sn.load(finished) as run:
        assert done.stdout == run("the prompt, as it is") + "\n"
    commands = [shlex.split(line) for block in blocks(text, "bash") for line in block.splitlines()]
    assert [command[0] for command in commands] == ["vllm"]
    for command in commands:
        assert {word for word in command if word.startswith("-")} <= COMMANDS[command[0]]
    [loading] = blocks((out / "dataset" / "README.md").read_text(), "python")
    script = f"{loading}\nassert len(train) == len(same) == {len(sn.load(finished).curated)}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=out / "dataset", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_card_says_what_the_report_says(exported: Path, finished: Path) -> None:
    from huggingface_hub import ModelCard

    report = json.loads((finished / "report.json").read_text())
    text = (exported / "README.md").read_text()
    data = ModelCard(text).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert "base_model" not in data, "a folder's name is no model of the hub"
    values = {m["type"]: m["value"] for m in data["model-index"][0]["results"][0]["metrics"]}
    distilled = report["systems"]["distilled"]
    assert values == {
        "accuracy": distilled["accuracy"], "agreement_with_system2": distilled["agreement_with_system2"]
    }  # fmt: skip
    assert text.index("**Verdict: ") < text.index("**Next**, for whoever made it: ") < text.index("## Results")
    for name, system in report["systems"].items():
        if system is not None:
            row = next(line for line in text.splitlines() if line.startswith(f"| {system_name(name, system)} |"))
            assert f"{system['accuracy']:.3f}" in row
    assert f"{report['curation']['kept']} of {report['curation']['prompts']} prompts were kept" in text
    assert "vllm serve tiny-base --enable-lora --lora-modules run=. --max-lora-rank 8\n" in text
    assert "````\nBe ``` brief\n````" in text
    assert '"content": "Be ``` brief"' in text


def test_the_hub_id_that_the_user_gives_is_the_base(finished: Path, tmp_path: Path, cli: Cli) -> None:
    assert cli("export", finished, "--out", tmp_path / "o", "--base", "owner/base").returncode == 0
    assert json.loads((tmp_path / "o" / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/base"
    assert "base_model: owner/base\nbase_model_relation: adapter\n" in (tmp_path / "o" / "README.md").read_text()


def test_sections_of_a_fuller_report_are_in_the_card_and_what_a_model_wrote_is_no_markup(
    finished: Path, tmp_path: Path, cli: Cli
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    report = json.loads((run / "report.json").read_text())
    given = full()
    report |= {name: given[name] for name in ("tests", "power", "seeds", "regression", "contamination")}
    report["caveats"] = [{"kind": "seeds", "text": HOSTILE}]
    report["tests"][0]["question"] = report["regression"]["general"]["source"] = HOSTILE
    (run / "report.json").write_text(json.dumps(report))
    assert cli("export", run).returncode == 0
    text = (run / "export" / "README.md").read_text()
    assert "<b>" not in text
    assert "\n# no" not in text
    assert r"&lt;b&gt;\|x\|&lt;/b&gt; \`y\` \[z\]" in text
    for part in ("-0.006 [-0.040, +0.050]", "With 67 groups", "| 11 | 0.426 [0.33, 0.49]", "0.0312", "0.310 ± 0.046",
                 "2 of 134 test prompts were flagged (n-gram 1, near-duplicate 1).", "on 131 prompts", "55.1"):  # fmt: skip
        assert part in text, part
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_the_dataset_loads_in_each_format_and_one_step_of_trl_takes_it(
    exported: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    curated = [json.loads(line) for line in (finished / "curated.jsonl").read_text().splitlines()]
    folder = exported / "dataset"
    configs = ("prompt_completion", "chat", "discarded")
    found = {name: datasets.load_dataset(str(folder), name, split="train") for name in configs}
    parquet = str(folder / "prompt_completion.parquet")
    found["parquet"] = datasets.load_dataset("parquet", data_files=parquet, split="train")
    for name in ("prompt_completion", "parquet"):
        assert [row["prompt"] for row in found[name]] == [row["prompt"] for row in curated]
        assert [row["completion"] for row in found[name]] == [row["completion"] for row in curated]
    assert found["chat"][0]["messages"] == curated[0]["prompt"] + curated[0]["completion"]
    assert [row["agreement"] for row in found["parquet"]] == [row["agreement"] for row in curated]
    discarded = [json.loads(line) for line in (finished / "discarded.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in found["discarded"]] == [row["reason"] for row in discarded]
    assert {v["answer"]: v["count"] for v in found["discarded"][0]["votes"]} == discarded[0]["votes"]

    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    for name in ("prompt_completion", "parquet"):
        config = SFTConfig(output_dir=str(tmp_path / "t"), max_steps=1, report_to="none", use_cpu=True, bf16=False)
        trainer = SFTTrainer(str(finished.parent / "tiny-base"), args=config, train_dataset=found[name])
        assert trainer.train().training_loss > 0


def test_a_pushed_export_arrives_byte_for_byte_and_the_dataset_only_where_asked(
    finished: Path, tmp_path: Path, cli: Cli, hub: Hub
) -> None:
    out = tmp_path / "out"
    done = cli("export", finished, "--out", out, "--push-to-hub", "me/model", "--dataset-repo", "me/data")
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert f"{hub.url}/me/model\n{hub.url}/datasets/me/data\n" in done.stdout
    assert [(m["name"], m["visibility"]) for m in hub.made] == [("model", "private"), ("data", "private")]
    on_disk = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    model = {name: content for name, content in on_disk.items() if not name.startswith(("dataset/", "export.json"))}
    data = {name[8:]: content for name, content in on_disk.items() if name.startswith("dataset/")}
    assert hub.files == {"models/me/model": model, "datasets/me/data": data}
    assert hub.objects, "the weights went up as a large file"
    assert "datasets:\n- me/data\n" in on_disk["README.md"].decode()
    assert cli("export", finished, "--out", out, "--push-to-hub", "me/model", "--public").returncode == 0
    assert hub.made[-1]["visibility"] == "public"


@pytest.mark.parametrize(("status", "words"), [(401, "does not accept the token"), (403, "may not write there")])
def test_a_hub_that_refuses_is_one_line_without_the_token(
    status: int, words: str, finished: Path, tmp_path: Path, cli: Cli, hub: Hub
) -> None:
    hub.refusal = status
    done = cli("export", finished, "--out", tmp_path / "out", "--push-to-hub", "me/model")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: push to me/model: ")
    assert words in line
    assert TOKEN not in done.stdout + done.stderr
    assert (tmp_path / "out" / "README.md").exists(), "what was written stays"


def test_a_hub_that_cannot_be_reached_is_one_line(
    finished: Path, tmp_path: Path, cli: Cli, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    done = cli("export", finished, "--out", tmp_path / "out", "--push-to-hub", "me/model")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "could not reach the hub" in done.stderr


def test_what_cannot_be_pushed_is_known_before_anything_is_written(
    finished: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in ("a/b/c", "me/mo del", "model"):
        done = cli("export", finished, "--out", out, "--push-to-hub", name)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done
        assert repr(name) in done.stderr
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    done = cli("export", finished, "--out", out, "--push-to-hub", "me/model")
    assert "pushing needs a token" in done.stderr
    assert not out.exists()


def test_a_run_with_nothing_distilled_exports_its_dataset_alone(
    recipe: Callable[..., Path], tmp_path: Path, cli: Cli
) -> None:
    run = tmp_path / "run"
    assert cli("sample", run, "--recipe", recipe(), "--quiet").returncode == 0
    assert f"nothing is curated yet: run `secondnature verify {run}` first" in cli("export", run).stderr
    for stage in ("verify", "report"):
        assert cli(stage, run, "--quiet").returncode == 0
    done = cli("export", run)
    assert done.returncode == 2
    assert "nothing is distilled yet" in done.stderr
    done = cli("export", run, "--dataset-only")
    assert done.returncode == 0, done.stderr
    assert not (run / "export" / "README.md").exists()
    assert (run / "export" / "dataset" / "chat.jsonl").exists()


def test_an_adapter_that_is_not_of_this_run_any_more_is_refused(finished: Path, tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    lines = (run / "curated.jsonl").read_text().splitlines(keepends=True)
    (run / "curated.jsonl").write_text("".join(lines[1:]))
    done = cli("export", run)
    assert (done.returncode, done.stdout) == (2, "")
    assert "was changed since it was written" in done.stderr


def test_only_an_export_is_replaced(exported: Path, finished: Path, tmp_path: Path, cli: Cli) -> None:
    before = everything(exported)
    (exported / "dataset" / "chat.jsonl").unlink()
    assert cli("export", finished, "--out", exported).returncode == 0
    assert everything(exported) == before
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")], "nothing is left beside it"
    (tmp_path / "link").symlink_to(exported)
    assert cli("export", finished, "--out", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink(), "the folder that it leads to is the export"
    assert everything(exported) == before
    (tmp_path / "empty").mkdir()
    assert cli("export", finished, "--out", tmp_path / "empty").returncode == 0
    assert (tmp_path / "empty" / "README.md").exists()


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FOREIGN: dict[str, Callable[[Path], object]] = {
    "a file of the user's": lambda out: (out / "thesis.tex").write_text("mine"),
    "a folder of the user's": lambda out: (out / ".git").mkdir(),
    "a file below": lambda out: (out / "dataset" / "notes.txt").write_text("mine"),
    "a changed card": lambda out: (out / "README.md").write_text("mine"),
    "a link": lambda out: (out / "link").symlink_to("/"),
    "a link for a file": lambda out: [(out / "README.md").unlink(), (out / "README.md").symlink_to(__file__)],
    "no list": lambda out: (out / "export.json").unlink(),
    "an empty list": lambda out: (out / "export.json").write_text("{}"),
    "a broken list": lambda out: (out / "export.json").write_text("{"),
    "a list that is none": lambda out: (out / "export.json").write_text('{"sha256": ["README.md"]}'),
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_an_export_did_not_write_it_does_not_replace(
    foreign: str, exported: Path, finished: Path, cli: Cli
) -> None:
    FOREIGN[foreign](exported)
    before = everything(exported)
    done = cli("export", finished, "--out", exported)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "give another folder" in done.stderr
    assert everything(exported) == before


def test_an_export_leaves_alone_what_lies_beside_it(finished: Path, tmp_path: Path, cli: Cli) -> None:
    beside = tmp_path / "out.partial"
    beside.mkdir()
    (beside / "thesis.tex").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    (tmp_path / "mine" / "export.json").write_text("{}")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "file").touch()
    assert cli("export", finished, "--out", tmp_path / "out").returncode == 0
    assert (beside / "thesis.tex").read_text() == "mine"
    for name, said in (
        ("mine", "not an export"),
        ("nowhere", "leads nowhere"),
        ("file", "not a folder"),
        ("x" * 300, "too long"),
    ):
        done = cli("export", finished, "--out", tmp_path / name)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert said in done.stderr
    assert everything(tmp_path / "mine").keys() == {"thesis.tex", "export.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"out.partial", "mine", "nowhere", "file", "out"}


KILLED = """
import os, signal, sys
from pathlib import Path
from secondnature.cli import app
rename, at = Path.rename, int(sys.argv[1])
def killed(self, target):
    global at
    at -= 1
    if at == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = killed
app(sys.argv[2:])
"""


@pytest.mark.parametrize("at", [1, 2], ids=["before the old one is moved", "before the new one is there"])
def test_what_a_killed_export_left_behind_is_removed_by_the_next_and_the_old_one_is_put_back(
    at: int, exported: Path, finished: Path, tmp_path: Path, cli: Cli
) -> None:
    before = everything(exported)
    command = [sys.executable, "-c", KILLED, str(at), "export", str(finished), "--out", str(exported), "--dataset-only"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 4 - at, left
    (tmp_path / ".out.mine").mkdir()
    (tmp_path / ".out.0123456789abcdef").mkdir()
    assert "repository's name" in cli("export", finished, "--out", exported, "--push-to-hub", "a b").stderr
    assert cli("export", finished, "--out", exported, "--gguf", "--converter", "nothing").returncode == 2
    assert everything(exported) == before, "an export that failed later leaves the former one"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.0123456789abcdef", ".out.mine", "out"]
    assert cli("export", finished, "--out", exported).returncode == 0


def changed_config(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda adapter: (adapter / "adapter_model.safetensors").write_bytes(b""),
    "cut": lambda adapter: os.truncate(adapter / "adapter_model.safetensors", 5000),
    "random": lambda adapter: (adapter / "adapter_model.safetensors").write_bytes(os.urandom(5000)),
    "gone": lambda adapter: (adapter / "adapter_model.safetensors").unlink(),
    "rank 99": lambda adapter: changed_config(adapter, r=99),
    "alpha": lambda adapter: changed_config(adapter, lora_alpha=1),
    "config broken": lambda adapter: (adapter / "adapter_config.json").write_text("{"),
    "config gone": lambda adapter: (adapter / "adapter_config.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_adapter_is_not_exported(damage: str, finished: Path, tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    DAMAGE[damage](run / "adapter")
    for options in ((), ("--merged",)):
        done = cli("export", run, *options)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert f"`secondnature train {run}` makes it anew" in done.stderr
    assert not (run / "export").exists()
    for command in (["evaluate", run, "--quiet"], ["report", run, "--quiet"], ["ask", run, "hello", "--quiet"]):
        done = cli(*command)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), command
        assert f"`secondnature train {run}` makes it anew" in done.stderr


def test_training_makes_a_damaged_adapter_anew_and_a_report_on_other_weights_is_not_published(
    finished: Path, tmp_path: Path, cli: Cli
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    DAMAGE["cut"](run / "adapter")
    assert "it is trained anew" in cli("train", run).stderr
    assert cli("export", run, "--out", tmp_path / "again").returncode == 0, "the same weights came of it"
    for file in ("adapter_model.safetensors", "training.json"):  # as if another machine had trained it
        (run / "adapter" / file).unlink()
    training = json.loads((finished / "adapter" / "training.json").read_text())
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"others")
    training["files"]["adapter_model.safetensors"] = hashlib.sha256(b"others").hexdigest()
    (run / "adapter" / "training.json").write_text(json.dumps(training))
    assert "report.json is about an older adapter" in cli("export", run).stderr


@pytest.mark.parametrize(
    "content", ["x\n", "{}\n", "[]\n", '"x"\n', "null\n", '{"id": 1}\n', "\ufffd\n", '{"id": 1e999}\n']
)
@pytest.mark.parametrize("file", ["curated.jsonl", "discarded.jsonl"])
def test_a_damaged_training_set_is_not_exported(
    file: str, content: str, finished: Path, tmp_path: Path, cli: Cli
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    whole = (run / file).read_text()
    options = ["--dataset-only"] if file == "discarded.jsonl" else []
    for damaged in (content, whole + content):
        (run / file).write_text(damaged)
        for more in ([], options):
            done = cli("export", run, *more)
            assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
            where = (
                "was changed since it was written" if file == "curated.jsonl" else f", line {damaged.count(chr(10))}: "
            )
            assert f"{run / file}" in done.stderr
            assert where in done.stderr
            assert f"`secondnature verify {run}` writes it anew" in done.stderr
    assert not (run / "export").exists()


def test_a_damaged_report_is_not_told(finished: Path, tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    report = json.loads((run / "report.json").read_text())
    others: list[Any] = [None, 7, "x", [], [7], {}, {"x": 7}]
    contents = ["", "{", "[]", "{}", *(json.dumps({**report, key: value}) for key in report for value in others)]
    contents += [json.dumps({k: v for k, v in report.items() if k != key}) for key in report]
    refused = 0
    for number, content in enumerate(contents):
        (run / "report.json").write_text(content)
        done = cli("export", run, "--out", tmp_path / str(number))
        assert (done.returncode, len(done.stderr.splitlines())) in ((0, 0), (2, 1)), content[:80]
        refused += done.returncode == 2
        if done.returncode and "older adapter" not in done.stderr:
            assert f"`secondnature report {run}` writes it anew" in done.stderr, content[:80]
    assert refused > 20


def test_a_damaged_run_json_is_one_line(finished: Path, tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    state = json.loads((run / "run.json").read_text())
    others: list[Any] = [7, "x", [], [7], {"weights": 7}]
    contents = [
        "",
        "{",
        "[]",
        *(json.dumps({**state, key: v}) for key in ("model", "seconds", "throughput") for v in others),
    ]
    for content in contents:
        (run / "run.json").write_text(content)
        for command in ("export", "report"):
            done = cli(command, run)
            assert done.returncode == 2 or "seconds" in content, content[:80]
            assert len(done.stderr.splitlines()) == 1 or not done.returncode, (command, content[:300])


def test_a_converter_is_run_on_the_merged_model_and_what_it_says_is_told(
    finished: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.delenv("SECONDNATURE_GGUF_CONVERTER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(
        f"#!{sys.executable}\nimport sys, pathlib\nfrom gguf import GGUFWriter\n"
        "folder, _, out, _, kind, _, name = sys.argv[1:]\n"
        "assert (pathlib.Path(folder) / 'model.safetensors').exists() and (kind, name) == ('f16', 'run')\n"
        "w = GGUFWriter(out, 'llama')\nw.write_header_to_file()\nw.write_kv_data_to_file()\nw.close()\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    done = cli("export", finished, "--out", tmp_path / "out", "--gguf")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "run.gguf").read_bytes()[:4] == b"GGUF"
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "out" / "model.safetensors").exists()
    written = (tmp_path / "out" / "Modelfile").read_text()
    assert written.startswith('FROM ./run.gguf\nTEMPLATE """')
    assert '\nSYSTEM """Be ``` brief"""\nPARAMETER temperature 0\nPARAMETER num_predict 8\n' in written
    assert 'PARAMETER stop "<|im_end|>"\n' in written
    commands = [
        line for block in blocks((tmp_path / "out" / "README.md").read_text(), "bash") for line in block.splitlines()
    ]
    assert [shlex.split(line)[0] for line in commands] == ["vllm", "llama-server", "ollama", "ollama"]
    for name, *words in map(shlex.split, commands):
        assert {word for word in words if word.startswith("-")} <= COMMANDS[name]
    script.write_text(f"#!{sys.executable}\nraise SystemExit('unknown architecture')\n")
    done = cli("export", finished, "--out", tmp_path / "out", "--gguf")
    assert (done.returncode, "failed: unknown architecture" in done.stderr) == (2, True)
    assert (tmp_path / "out" / "run.gguf").exists(), "the export before is still there"


def filled(template: str, system: str, prompt: str) -> str:
    """What Go makes of a template that is no more than "if .System", "else" and "end"."""
    branches = re.fullmatch(r"\{\{ if \.System \}\}(.*)\{\{ else \}\}(.*)\{\{ end \}\}", template, re.DOTALL)
    chosen = template if branches is None else branches[1 if system else 2]
    return chosen.replace("{{ .System }}", system).replace("{{ .Prompt }}", prompt).replace('{{ "{{" }}', "{{")


@pytest.mark.model
def test_a_modelfile_asks_with_the_tokens_that_were_trained_on(finished: Path) -> None:
    from transformers import AutoTokenizer

    from secondnature.engines.chat import render

    tokenizer: Any = AutoTokenizer.from_pretrained(finished.parent / "tiny-base")
    plain, refusing = (
        tokenizer.chat_template,
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}",
    )
    for chat_template in (plain, "{{ '{{x}}' }}" + plain, refusing + plain):
        tokenizer.chat_template = chat_template
        written = modelfile("m.gguf", tokenizer, ["<|im_end|>"], None, 8)
        assert "SYSTEM" not in written
        [template] = re.findall(r'^TEMPLATE """(.*?)"""$', written, re.DOTALL | re.MULTILINE)
        asked = [Message("user", "Two\n{{ lines }}")]
        assert filled(template, "", asked[0].content) == render(tokenizer, asked)
        if refusing not in chat_template:
            asked = [Message("system", "Short."), *asked]
            assert filled(template, "Short.", asked[-1].content) == render(tokenizer, asked)


@pytest.mark.model
def test_llama_cpps_converter_comes_from_the_package_index_and_its_file_gives_the_same_answers(tmp_path: Path) -> None:
    """On the embedded model: a tiny one's tokenizer is none that llama.cpp knows."""
    pytest.importorskip("sentencepiece")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from secondnature.engines.models import gguf_fields, locate

    folder, told = Path(locate("bundled:smollm2-135m").path), list[str]()
    convert(find_converter(None, told.append), folder, tmp_path / "m.gguf")
    convert(find_converter(None, lambda line: pytest.fail("it is here already")), folder, tmp_path / "m.gguf")
    assert gguf_fields(tmp_path / "m.gguf")["general.name"] == "m"
    prompts = [[{"role": "user", "content": text}] for text in ("What is the capital of Peru?", "Name a colour.")]
    texts: list[list[str]] = []
    for options in (
        {"pretrained_model_name_or_path": folder},
        {"pretrained_model_name_or_path": tmp_path, "gguf_file": "m.gguf"},
    ):
        model: Any = AutoModelForCausalLM.from_pretrained(**options, dtype=torch.float32)
        texts.append(replies(model, AutoTokenizer.from_pretrained(**options), prompts))
    assert texts[0] == texts[1]
    assert all(texts[0])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b\nc", r"a\|b c"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("# title", r"\# title"),
        ("1. one", "&#8288;1. one"),
        ("see http://x", r"see http\://x"),
        ("x" * 200, "x" * 159 + "…"),
        ("0.5 (-0.1)", "0.5 (-0.1)"),
    ],
)
def test_text_in_a_cell_is_text(text: str, shown: str) -> None:
    assert cell(text) == shown


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    assert fenced("a\n````\nb").startswith("`````\n")


def test_a_licence_is_read_from_the_card_before_the_text(tmp_path: Path) -> None:
    assert folder_licence(tmp_path) is None
    (tmp_path / "LICENSE.txt").write_text("MIT License\n\nPermission is hereby granted, free of charge")
    assert folder_licence(tmp_path) == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: gemma\n---\n# x")
    assert folder_licence(tmp_path) == "gemma"
