"""Models that cannot be opened, each refused in one line before anything is drawn; and how a turn ends."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from secondnature import files  # noqa: E402
from secondnature.engines import open_engine  # noqa: E402
from secondnature.engines.chat import answer_ids, encode, end_of_turn, stop_ids, template_digest  # noqa: E402
from secondnature.engines.loading import open_model, open_tokenizer  # noqa: E402
from secondnature.engines.models import locate, needs_fetching, public_name  # noqa: E402
from secondnature.files import file_digest  # noqa: E402
from secondnature.types import Decoding, Message, Request, UserError  # noqa: E402
from tiny import TEMPLATE, tiny_model  # noqa: E402

pytestmark = pytest.mark.model
ASKED = [Message("user", "is 2 even")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: Any) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(params=["auto", "transformers"])
def kind(request: Any) -> str:
    return request.param


def edited(file: str, **values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = {**json.loads((folder / file).read_text()), **values}
        (folder / file).write_text(json.dumps(content))

    return edit


def written(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(content) and None


def discarded(*files: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return remove


def cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def lacking(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights": (discarded("model.safetensors"), "has no weights"),
    "empty weights": (written("model.safetensors", b""), "the weights of .* cannot be opened"),
    "cut weights": (cut, "the weights of .* cannot be opened"),
    "a layer is missing": (lacking, "lack model.layers.1.mlp.down_proj.weight"),
    "other sizes": (edited("config.json", hidden_size=32), "other sizes than config.json says"),
    "broken config": (written("config.json", b"{"), "config.json is broken JSON"),
    "binary config": (written("config.json", b"\xff\xfe"), "config.json is broken JSON"),
    "config is a list": (written("config.json", b"[]"), "config.json is no JSON object"),
    "no config": (discarded("config.json"), "has no config.json"),
    "unknown architecture": (edited("config.json", model_type="foo"), "architecture 'foo'"),
    "no architecture": (edited("config.json", model_type=None), "architecture 'None'"),
    "not causal": (edited("config.json", model_type="t5"), "architecture 't5'"),
    "code of its own": (
        edited("config.json", model_type="foo", auto_map={"AutoModelForCausalLM": "evil.Evil"}),
        "code of its own .* never run here",
    ),
    "numbers as text": (edited("config.json", num_hidden_layers="two"), "cannot be"),
    "the end of a reply is a word": (
        edited("generation_config.json", eos_token_id="x"),
        "eos_token_id 'x', .* no token's",
    ),
    "no tokenizer": (discarded("tokenizer.json", "tokenizer_config.json"), "the tokenizer of .* cannot be opened"),
    "broken tokenizer": (written("tokenizer.json", b"{"), "the tokenizer of .* cannot be opened"),
    "broken tokenizer config": (written("tokenizer_config.json", b"{"), "the tokenizer of .* cannot be opened"),
    "no template": (discarded("chat_template.jinja"), "has no chat template"),
    "empty template": (written("chat_template.jinja", b" \n"), "has no chat template"),
    "broken template": (
        written("chat_template.jinja", b"{% for x in %}"),
        "chat template refuses a conversation of user",
    ),
    "template without the prompt": (written("chat_template.jinja", b"Hello."), "leaves out what the user says"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_model_that_cannot_be_opened_is_refused_in_one_line(
    damage: str, kind: str, base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    harm, said = DAMAGE[damage]
    harm(folder)
    with pytest.raises(UserError, match=f"model: .*{said}") as refused:
        open_engine(str(folder), kind, "float32", "cpu")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 700


def test_the_command_line_says_it_in_one_line_before_anything_is_drawn(
    base: Path, tmp_path: Path, recipe: Callable[..., Path], cli: Callable[..., Any]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").unlink()
    engine = {"kind": "transformers", "dtype": "float32", "device": "cpu"}
    done = cli("distill", recipe(model=str(folder), engine=engine), "--out", tmp_path / "run", "--quiet")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: model: {folder} has no chat template")


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "xpu", "gpu", "cdua", "cpu:x", "", "meta"])
def test_a_device_that_is_not_here_is_refused_before_the_model_is_fetched(device: str, base: Path) -> None:
    if device in ("cuda", "mps", "xpu") and getattr(torch, device).is_available():
        pytest.skip("it is here")
    for model in (str(base), "nobody/has-such-a-model"):
        with pytest.raises(UserError, match=r"^engine\.device: .*cpu"):
            open_engine(model, "transformers", "float32", device)


@pytest.mark.parametrize(
    "name",
    ["C:/models", "a b/c", "x/..", "x/y:z", "x/y@main", "-x/y", "a/" + "b" * 100, "a/b.git", "a--b/c", "a/\x1b[31m"],
)
def test_what_cannot_be_a_hub_id_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match="neither a folder, a .gguf file, a hub id") as refused:
        locate(name)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "01-ai/Yi-1.5-6B", "a/b", "x_1/y.z-2"])
def test_a_hub_id_is_one(name: str) -> None:
    assert public_name(name, "").on_hub
    assert needs_fetching(name)


def test_a_gguf_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04 a zip", b"GGUF", b"GGUF" + b"\xff" * 100):
        (tmp_path / "m.gguf").write_bytes(content)
        with pytest.raises(UserError, match=r"model: .*m\.gguf") as refused:
            locate(str(tmp_path / "m.gguf"))
        assert "\n" not in str(refused.value)
        with pytest.raises(UserError, match=r"m\.gguf is no whole GGUF file"):
            public_name(str(tmp_path / "m.gguf"), "")


def test_a_template_that_takes_no_system_message_says_so_for_that_conversation_alone(
    base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refusing + TEMPLATE)
    tokenizer = open_tokenizer(folder)
    assert encode(tokenizer, ASKED)
    with pytest.raises(UserError, match=r"System role not supported.*data\.system"):
        encode(tokenizer, [Message("system", "Be brief."), *ASKED])


def test_a_file_is_read_once_for_its_digest_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return path.read_text()

    monkeypatch.setattr(files, "_read_digest", digest)
    monkeypatch.setattr(files, "SETTLED", 0)
    file = tmp_path / "weights"
    file.write_text("one")
    assert [file_digest(file), file_digest(file), len(read)] == ["one", "one", 1]
    file.write_text("other")
    assert (file_digest(file), len(read)) == ("other", 2)
    monkeypatch.setattr(files, "SETTLED", 10**18)
    assert [file_digest(file), file_digest(file), len(read)] == ["other", "other", 4], "written a moment ago"


# --- the end of a turn ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ending(tmp_path_factory: Any) -> Path:
    """Like Phi and Gemma: the template ends a turn with another token than the tokenizer's eos_token."""
    return tiny_model(tmp_path_factory.mktemp("models") / "ending", turn_end="<|end|>")


def test_the_student_learns_the_templates_own_end_of_turn(ending: Path) -> None:
    tokenizer = open_tokenizer(ending)
    assert tokenizer.eos_token == "<|im_end|>"
    turns = [{"role": "user", "content": "is 2 even"}, {"role": "assistant", "content": "yes"}]
    whole = tokenizer.apply_chat_template(turns, return_dict=False)
    ids = encode(tokenizer, ASKED) + answer_ids(tokenizer, "yes", end_of_turn(tokenizer))
    assert tokenizer.decode(ids[-1:]) == "<|end|>"
    assert whole[: len(ids)] == ids, "just as the template writes it"


def test_an_engine_stops_at_the_templates_own_end_of_turn(
    ending: Path, kind: str, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECONDNATURE_CACHE", str(tmp_path))
    engine: Any = open_engine(str(ending), kind, "float32", "cpu")
    tokenizer = open_tokenizer(ending)
    assert engine.stop_ids == {*tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|end|>"])}
    engine.close()


def test_a_stop_that_the_model_does_not_name_is_part_of_the_keys_of_calls_and_no_other_is(
    ending: Path, base: Path
) -> None:
    from transformers import GenerationConfig

    tokenizer = open_tokenizer(ending)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    named, unnamed = GenerationConfig(eos_token_id=[end]), GenerationConfig(eos_token_id=[0])
    assert template_digest(tokenizer, named) != template_digest(tokenizer, unnamed)
    assert end in stop_ids(tokenizer, unnamed)
    plain = open_tokenizer(base)
    assert template_digest(plain, named) == template_digest(plain, unnamed)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (TEMPLATE, "<|im_end|>"),
        (TEMPLATE.replace("<|im_end|>\n", " <|im_end|>"), " <|im_end|>"),
        (TEMPLATE.replace("<|im_end|>", ""), "<|im_end|>"),  # it writes none: the tokenizer's
        (TEMPLATE.replace("<|im_end|>", "<|end|><|im_end|>"), "<|end|>"),
        ("{% if messages[-1].role == 'assistant' %}{{ raise_exception('x') }}{% endif %}" + TEMPLATE, "<|im_end|>"),
    ],
)
def test_the_end_of_a_turn_is_what_follows_an_answer_up_to_a_token_of_its_own(
    template: str, end: str, ending: Path, tmp_path: Path
) -> None:
    shutil.copytree(ending, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    tokenizer = open_tokenizer(tmp_path / "model")
    assert tokenizer.decode(answer_ids(tokenizer, "yes", end_of_turn(tokenizer))) == f"yes{end}"
    assert tokenizer.decode(answer_ids(tokenizer, "yes", None)) == "yes"


def test_a_tokenizer_without_an_eos_token_takes_the_models_or_the_templates(ending: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ending, folder)
    edited("tokenizer_config.json", eos_token=None, pad_token=None)(folder)
    assert open_tokenizer(folder).eos_token == "<|im_end|>", "generation_config.json names it"
    (folder / "generation_config.json").unlink()
    tokenizer = open_tokenizer(folder)
    assert tokenizer.eos_token_id is None
    assert tokenizer.decode(answer_ids(tokenizer, "yes", end_of_turn(tokenizer))) == "yes<|end|>"
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("<|im_end|>", ""))
    with pytest.raises(UserError, match="nothing ends a reply"):
        open_tokenizer(folder)


def test_a_model_without_an_eos_token_answers_and_is_trained(ending: Path, tmp_path: Path) -> None:
    from secondnature.train import TrainingExample, train
    from test_training import options

    folder = tmp_path / "model"
    shutil.copytree(ending, folder)
    edited("tokenizer_config.json", eos_token=None, pad_token="<|im_start|>")(folder)
    edited("config.json", eos_token_id=None, pad_token_id=None)(folder)
    edited("generation_config.json", eos_token_id=None, pad_token_id=None)(folder)
    engine = open_engine(str(folder), "transformers", "float32", "cpu")
    assert asyncio.run(engine.reply(Request(tuple(ASKED), Decoding(max_tokens=4), None))).completion_tokens <= 4
    engine.close()
    pairs = [TrainingExample(tuple(ASKED), "yes")] * 4
    done = train(pairs, str(folder), options(max_steps=1), tmp_path / "a", tmp_path / "c", digest="d", dtype="float32")
    assert done["steps"] == 1


def test_tied_weights_are_not_missing_ones(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tiny_model(tmp_path / "tied")
    config = AutoConfig.from_pretrained(folder)
    config.tie_word_embeddings = True
    tied: Any = AutoModelForCausalLM.from_config(config)
    tied.save_pretrained(folder)
    assert open_model(folder, dtype=torch.float32)


# code of others


def evil_weights(folder: Path, ran: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(ran), "w")

    (folder / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Evil()}, folder / "pytorch_model.bin")


def evil_modules(folder: Path, ran: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    edited("config.json", model_type="foo", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})(folder)
    edited("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]})(folder)


def evil_template(folder: Path, ran: Path) -> None:
    reached = "{{ cycler.__init__.__globals__.os.system('touch " + str(ran) + "') }}"
    (folder / "chat_template.jinja").write_text(reached + TEMPLATE)


@pytest.mark.parametrize("spoil", [evil_weights, evil_modules, evil_template])
def test_no_code_in_a_models_folder_runs(
    spoil: Callable[[Path, Path], None], base: Path, kind: str, tmp_path: Path
) -> None:
    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(base, folder)
    spoil(folder, ran)
    with pytest.raises(UserError):
        open_engine(str(folder), kind, "float32", "cpu")
    assert not ran.exists()
