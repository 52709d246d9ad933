"""The engines in process against transformers' own `generate`, on tiny random models."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from secondnature.engines import open_engine  # noqa: E402
from secondnature.engines.base import Engine, Pending  # noqa: E402
from secondnature.engines.chat import encode, end_of_turn  # noqa: E402
from secondnature.engines.models import locate  # noqa: E402
from secondnature.engines.transformers import (  # noqa: E402
    TransformersEngine,
    bytes_per_token,
    cache_budget,
    choose_batch,
    common_prefix,
    distinct,
    sample_tokens,
)
from secondnature.train import TrainingExample, tokens  # noqa: E402
from secondnature.types import Decoding, Message, Reply, Request, UserError  # noqa: E402
from tiny import tiny_adapter, tiny_model  # noqa: E402

pytestmark = pytest.mark.model
PROMPTS = ["hello", "what is the capital of france", "the same beginning and one end", "the same beginning and another"]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma"])
def folder(request: Any, tmp_path_factory: Any) -> Path:
    return tiny_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module", params=["openvino", "transformers"])
def kind(request: Any) -> str:
    if request.param == "openvino":
        pytest.importorskip("openvino_genai")
    return request.param


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: Any) -> Iterator[None]:
    """Exported tiny models stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECONDNATURE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def opened(kind: str, folder: Path) -> Any:
    return open_engine(str(folder), kind, "float32", "cpu")


def portable(folder: Path, **options: Any) -> TransformersEngine:
    return TransformersEngine(locate(str(folder)), dtype="float32", device="cpu", **options)


def replies(engine: Engine, requests: list[Request]) -> list[Reply]:
    async def all_replies() -> list[Reply]:
        return await asyncio.gather(*(engine.reply(r) for r in requests))

    return asyncio.run(all_replies())


def request(text: str, seed: int | None = None, adapter: str | None = None, **decoding: Any) -> Request:
    values = {"temperature": 0.0 if seed is None else 1.0, "max_tokens": 12, **decoding}
    return Request((Message("user", text),), Decoding(**values), seed, adapter)


def generated(model: Any, tokenizer: Any, text: str) -> str:
    ids = torch.tensor([encode(tokenizer, [Message("user", text)])])
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def expected_of(folder: Path, adapter: Path) -> tuple[list[str], list[str]]:
    """What `generate` says to PROMPTS, without and with the adapter."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain = [generated(base, tokenizer, text) for text in PROMPTS]
    adapted = PeftModel.from_pretrained(base, str(adapter))
    changed = [generated(adapted, tokenizer, text) for text in PROMPTS]
    assert len(set(plain)) > 1, "all replies are the same: the test would be blind"
    assert plain != changed, "the adapter changes nothing: the test would be blind"
    return plain, changed


def test_greedy_replies_equal_generate_with_and_without_an_adapter(folder: Path, kind: str, tmp_path: Path) -> None:
    adapter = tiny_adapter(folder, tmp_path / "adapter")
    plain, changed = expected_of(folder, adapter)
    engine = opened(kind, folder)
    engine.load_adapter("mine", str(adapter))
    asked = [request(text, adapter=name) for text in PROMPTS for name in (None, "mine")]
    said = [reply.text for reply in replies(engine, asked)]
    assert (said[::2], said[1::2]) == (plain, changed)
    engine.close()


@pytest.mark.parametrize("architecture", ["mistral", "qwen3"])
def test_the_other_architectures_that_openvino_exports(architecture: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino_genai")
    folder = tiny_model(tmp_path / architecture, architecture)
    adapter = tiny_adapter(folder, tmp_path / "adapter")
    plain, changed = expected_of(folder, adapter)
    engine = opened("openvino", folder)
    engine.load_adapter("mine", str(adapter))
    assert [reply.text for reply in replies(engine, [request(text) for text in PROMPTS])] == plain
    assert [reply.text for reply in replies(engine, [request(text, adapter="mine") for text in PROMPTS])] == changed
    engine.close()


def saying(engine: Engine, *adapters: str | None, cold: bool = False) -> list[str]:
    """What the engine says to PROMPTS with each adapter, one adapter after another."""
    asked = [[replace(request(text, adapter=name), cold=cold) for text in PROMPTS] for name in adapters]
    return [reply.text for requests in asked for reply in replies(engine, requests)]


def test_only_the_base_and_one_adapter_are_in_memory_and_each_says_what_it_said(kind: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    names = {f"a{seed}": tiny_adapter(folder, tmp_path / f"a{seed}", seed=seed) for seed in (1, 2, 3)}
    engine = opened(kind, folder)
    base = saying(engine, None)
    if kind == "transformers":
        own = {name: (weight.data_ptr(), weight.clone()) for name, weight in engine.model.named_parameters()}
    for name, adapter in names.items():
        engine.load_adapter(name, str(adapter))
    once = saying(engine, *names)
    assert len({*once}) > len({*saying(engine, "a1")}), "the adapters say the same: the test would be blind"
    assert saying(engine, "a2", None, "a3", None, "a1") == [*once[4:8], *base, *once[8:], *base, *once[:4]]
    if kind == "openvino":
        assert set(engine._pipelines) == {(None, False), ("a1", False)}
    else:
        assert (engine._merged, len(engine._others)) == ("a1", 14), "two layers of seven"
        assert saying(engine, None) == base
        for name, weight in engine.model.named_parameters():
            assert (weight.data_ptr(), weight.equal(own[name][1])) == (own[name][0], True), "the base is just the base"
    engine.close()


def test_requests_with_several_adapters_at_once_are_all_answered(kind: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    engine = opened(kind, folder)
    for seed in (1, 2):
        engine.load_adapter(f"a{seed}", str(tiny_adapter(folder, tmp_path / f"a{seed}", seed=seed)))
    names = ("a1", None, "a2")
    mixed = [request(text, adapter=name) for text in PROMPTS for name in names]
    said = [reply.text for reply in replies(engine, mixed)]
    assert [said[i::3] for i in range(3)] == [saying(engine, name) for name in names]
    engine.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_adapter_is_merged_in_float32_and_rounded_to_the_bases_own_precision(dtype: Any, tmp_path: Path) -> None:
    """With rank-stabilised scaling, and where the base has the same weights twice, which OpenVINO stores once."""
    openvino = pytest.importorskip("openvino")
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from secondnature.engines.openvino_export import MODEL, export, merged

    folder = tiny_model(tmp_path / "model")
    twice: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    twice.model.layers[1].load_state_dict(twice.model.layers[0].state_dict())
    twice.save_pretrained(folder)
    adapter = tiny_adapter(folder, tmp_path / "adapter", use_rslora=True)
    adapted: Any = PeftModel.from_pretrained(twice.float(), str(adapter))
    expected = dict(adapted.merge_and_unload().to(dtype).named_parameters())
    with merged(export(locate(str(folder))), adapter) as copy:
        found = {node.get_friendly_name(): node for node in openvino.Core().read_model(copy / MODEL).get_ops()}
        for name, weight in expected.items():
            if name.endswith("proj.weight"):
                bits = torch.from_numpy(found[f"self.model.{name}"].data.view("uint8").copy())
                assert bits.view(dtype).view(weight.shape).equal(weight), name
    assert not copy.exists()
    assert not expected["model.layers.0.mlp.up_proj.weight"].equal(expected["model.layers.1.mlp.up_proj.weight"])


def test_a_16_bit_checkpoint_runs_in_float32_with_and_without_an_adapter(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny_model(tmp_path / "model")
    halved: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    halved.save_pretrained(folder)
    adapter = tiny_adapter(folder, tmp_path / "adapter")
    engine = opened(kind, folder)
    engine.load_adapter("mine", str(adapter))
    assert [saying(engine, None), saying(engine, "mine")] == list(expected_of(folder, adapter))
    engine.close()


def test_rank_stabilised_scaling_is_heeded(folder: Path, kind: str, tmp_path: Path) -> None:
    adapter = tiny_adapter(folder, tmp_path / "adapter", use_rslora=True)
    engine = opened(kind, folder)
    engine.load_adapter("mine", str(adapter))
    assert saying(engine, "mine") == expected_of(folder, adapter)[1]
    engine.close()


@pytest.mark.parametrize(
    ("option", "told"),
    [({"use_dora": True}, "lora_magnitude_vector"), ({"modules_to_save": ["lm_head"]}, "lm_head"), ({"lora_bias": True}, "bias")],
)  # fmt: skip
def test_an_adapter_that_is_more_than_plain_lora_is_refused(
    option: dict[str, Any], told: str, folder: Path, kind: str, tmp_path: Path
) -> None:
    engine = opened(kind, folder)
    with pytest.raises(UserError, match=f"only plain LoRA can be merged, and this has .*{told}"):
        engine.load_adapter("odd", str(tiny_adapter(folder, tmp_path / "adapter", **option)))
    engine.close()


def test_a_cold_request_reads_its_whole_prompt_and_says_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in steps of at most 32 tokens: what comes from the cache takes none."""
    pytest.importorskip("openvino_genai")
    from secondnature.engines import openvino

    monkeypatch.setattr(openvino, "MAX_STEP_TOKENS", 32)
    engine = opened("openvino", folder)
    engine.load_adapter("mine", str(tiny_adapter(folder, tmp_path / "adapter")))
    steps = Counter[bool]()
    make = engine._opened

    class Counting:
        def __init__(self, pipeline: Any, cold: bool):
            self.pipeline, self.cold = pipeline, cold

        def step(self) -> None:
            steps[self.cold] += 1
            self.pipeline.step()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.pipeline, name)

    monkeypatch.setattr(engine, "_opened", lambda path, *, cached: Counting(make(path, cached=cached), not cached))

    def taken(adapter: str | None, *, cold: bool) -> tuple[int, str]:
        before = steps[cold]
        long = replace(request("a long prompt " * 25, adapter=adapter, max_tokens=4), cold=cold)
        [reply] = replies(engine, [long])
        return steps[cold] - before, reply.text

    for adapter in (None, "mine"):
        (first, said), (second, again) = (taken(adapter, cold=False) for _ in range(2))
        assert first > 12 > second, "a prompt of more than 350 tokens, read in steps, then from the cache"
        assert [taken(adapter, cold=True) for _ in range(2)] == [(first, said)] * 2
        assert said == again
    engine.close()


def test_the_portable_engine_merges_into_layers_that_keep_their_weights_turned(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "gpt2", "gpt2")
    adapter = tiny_adapter(folder, tmp_path / "adapter")
    plain, changed = expected_of(folder, adapter)
    engine = portable(folder)
    engine.load_adapter("mine", str(adapter))
    assert saying(engine, None, "mine") == [*plain, *changed]
    engine.close()


def test_one_row_at_a_time_gives_the_same_greedy_replies_as_a_batch(folder: Path) -> None:
    together, alone = portable(folder), portable(folder, max_rows=1)
    asked = [request(text) for text in PROMPTS]
    assert [r.text for r in replies(together, asked)] == [r.text for r in replies(alone, asked)]
    together.close()
    alone.close()


def test_a_reply_counts_its_tokens_and_says_how_it_ended(folder: Path, kind: str) -> None:
    engine = opened(kind, folder)
    [short] = replies(engine, [request("hello", max_tokens=3)])
    assert (short.finish, short.completion_tokens) == ("length", 3)
    assert short.prompt_tokens == engine.count_tokens([Message("user", "hello")])
    engine.stop_ids = set(range(len(engine.tokenizer)))  # any token ends a reply
    [stopped] = replies(engine, [request("hello")])
    assert (stopped.finish, stopped.completion_tokens, stopped.text) == ("stop", 1, "")
    engine.close()


def test_log_probabilities_are_the_models_own_before_temperature(folder: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    engine = opened(kind, folder)
    greedy, warm = request("hello"), request("hello", seed=1, temperature=0.5, top_p=0.9, max_tokens=1)
    asked = [replace(greedy, logprobs=True), replace(warm, logprobs=True), greedy]
    said, drawn, unasked = replies(engine, asked)
    engine.close()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([encode(AutoTokenizer.from_pretrained(folder), greedy.messages)])
    with torch.inference_mode():
        out = model.generate(ids, max_new_tokens=12, do_sample=False, output_scores=True, return_dict_in_generate=True)
        scores = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)[0]
        first = model(ids).logits[0, -1].log_softmax(-1)
    assert said.logprob == pytest.approx(float(scores[: said.completion_tokens].mean()), abs=1e-3)
    assert drawn.logprob is not None
    assert float((first - drawn.logprob).abs().min()) < 1e-3, "it is one of the model's own log-probabilities"
    assert drawn.logprob <= float(first.max()) + 1e-3
    assert unasked.logprob is None


def test_the_templates_thinking_switch_is_off_unless_asked_for(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model(tmp_path / "plain"))
    asked = [Message("user", "hello")]
    with pytest.raises(UserError, match="no thinking mode"):
        encode(tokenizer, asked, thinking=True)
    tokenizer.chat_template += "{% if not enable_thinking %}<think></think>{% endif %}"
    off, on = (tokenizer.decode(encode(tokenizer, asked, thinking=thinking)) for thinking in (False, True))
    assert off == on + "<think></think>"
    assert tokenizer.decode(
        tokens(tokenizer, TrainingExample(tuple(asked), "hi"), end_of_turn(tokenizer))["input_ids"]
    ).startswith(off + "hi"), "the student is trained with thinking off"


def test_a_batch_stays_within_the_memory_that_its_keys_and_values_may_take(folder: Path) -> None:
    engine = portable(folder)
    cache = engine._prefill([list(range(20))])[0]
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert bytes_per_token(engine.model.config, torch.float32) * 21 == held, "a column of padding is in it"
    assert engine.max_tokens == cache_budget("cpu") // bytes_per_token(engine.model.config, torch.float32)
    loop = asyncio.new_event_loop()
    waiting = [Pending(request("x", max_tokens=10), [1] * 10, loop.create_future(), loop) for _ in range(8)]
    assert [len(choose_batch(waiting, rows, tokens)) for rows, tokens in ((8, 160), (8, 159), (3, 160), (8, 1))] == [
        8, 7, 3, 1
    ]  # fmt: skip
    loop.close()
    engine.close()


def test_a_seed_decides_a_sampled_reply_and_seeds_differ(folder: Path) -> None:
    engine = portable(folder)
    first, again = (replies(engine, [request("hello", seed=s) for s in range(8)]) for _ in range(2))
    assert [r.text for r in first] == [r.text for r in again]
    assert len({r.text for r in first}) > 1
    engine.close()


def test_samples_follow_the_models_distribution(kind: str, tmp_path: Path) -> None:
    """First letters of many samples, drawn together as one prompt's samples are, against the model's probabilities."""
    from transformers import AutoModelForCausalLM

    folder = tiny_model(tmp_path / "model")
    engine = opened(kind, folder)
    asked = [request("hello", seed=s, max_tokens=1, top_p=0.8) for s in range(1500)]
    counts = Counter(reply.text for reply in replies(engine, asked))
    tokenizer = engine.tokenizer
    ids = torch.tensor([encode(tokenizer, [Message("user", "hello")])])
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits[0, -1]
    shares, order = logits.softmax(-1).sort(descending=True)
    inside = (shares.cumsum(0) - shares) < 0.8
    expected = Counter[str]()
    for share, token in zip(shares[inside] / shares[inside].sum(), order[inside], strict=True):
        expected[tokenizer.decode([int(token)])] += float(share)
    assert set(counts) <= set(expected), "nothing outside the nucleus is drawn"
    for text, share in expected.most_common(5):
        assert counts[text] / len(asked) == pytest.approx(share, abs=4 * (share * (1 - share) / len(asked)) ** 0.5)
    engine.close()


def test_a_prompt_longer_than_the_context_is_refused(folder: Path, kind: str) -> None:
    engine = opened(kind, folder)
    with pytest.raises(UserError, match="context"):
        replies(engine, [request("word " * 2000)])
    engine.close()


def test_a_closed_engine_fails_what_waits_and_what_comes(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = opened(kind, tiny_model(tmp_path / "model"))

    async def close_while_drawing() -> list[Reply | BaseException]:
        drawing = [asyncio.create_task(engine.reply(request("hello", seed=s, max_tokens=400))) for s in range(40)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(engine.close)
        return await asyncio.gather(*drawing, return_exceptions=True)

    assert any(isinstance(end, RuntimeError) for end in asyncio.run(close_while_drawing()))
    said = capfd.readouterr()
    assert (said.out, said.err.replace("engine: converting the model for OpenVINO, once\n", "")) == ("", "")
    with pytest.raises(RuntimeError, match="closed"):
        replies(engine, [request("hello")])


def test_a_prompt_that_begins_as_one_about_to_be_read_is_held_back() -> None:
    pytest.importorskip("openvino_genai")
    from secondnature.engines.openvino import BLOCK, hold_back

    loop = asyncio.new_event_loop()
    shared = list(range(BLOCK))
    one, other, apart = (
        [Pending(request("x"), ids, loop.create_future(), loop)]
        for ids in ([*shared, 7, 8], [*shared, 9], [5] * (2 * BLOCK))
    )
    read = set[int]()
    now, held = hold_back([one, other, apart], read)
    assert (now, held) == ([one, apart], other)
    assert hold_back([held], read) == ([other], []), "once it was read, nothing is held back"
    loop.close()


def test_sampling_follows_the_nucleus_distribution() -> None:
    probabilities = torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04])
    rows = 20_000
    drawn = sample_tokens(
        probabilities.log().expand(rows, -1),
        torch.ones(rows),
        torch.full((rows,), 0.85),
        torch.rand(rows, generator=torch.Generator().manual_seed(0)),
    )
    counts = Counter(drawn.tolist())
    assert set(counts) == {0, 1, 2}, "the nucleus is the fewest tokens that reach 0.85"
    for token, share in enumerate((0.4, 0.3, 0.2)):
        assert counts[token] / rows == pytest.approx(share / 0.9, abs=0.015)


def test_a_wide_nucleus_is_not_cut_to_the_first_candidates() -> None:
    rows, vocabulary = 4000, 500
    uniform = torch.rand(rows, generator=torch.Generator().manual_seed(0))
    drawn = sample_tokens(torch.zeros(rows, vocabulary), torch.ones(rows), torch.full((rows,), 0.9), uniform)
    assert len(set(drawn.tolist())) == pytest.approx(450, abs=5)


def test_temperature_zero_is_the_most_likely_token_whatever_the_others_do() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.1, 0.0]])
    token = sample_tokens(logits, torch.tensor([0.0, 5.0]), torch.ones(2), torch.tensor([0.9, 0.99]))
    assert token[0] == 1


def test_converting_a_gguf_file_is_said_in_words_and_shows_no_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tqdm.auto import tqdm
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_model(tmp_path / "model")
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(b"GGUF, the rest is read by nobody here")
    load, load_tokenizer = AutoModelForCausalLM.from_pretrained, AutoTokenizer.from_pretrained

    def as_transformers_does(*_: Any, **options: Any) -> Any:
        for _ in tqdm(range(3), desc="Converting and de-quantizing GGUF tensors..."):
            pass
        return load(folder, dtype=options["dtype"])

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", as_transformers_does)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: load_tokenizer(folder))
    capfd.readouterr()
    said: list[str] = []
    for _ in range(2):
        assert (Path(locate(str(gguf), say=said.append).path) / "model.safetensors").exists()
    assert said == ["model: converting tiny.gguf to float32, once"]
    assert capfd.readouterr() == ("", "")


def test_prefixes_and_distinct_prompts() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert common_prefix([[1, 2], [1, 2]]) == 1, "every prompt keeps a token of its own"
    assert distinct([[1], [2], [1]]) == ([[1], [2]], [0, 1, 0])
