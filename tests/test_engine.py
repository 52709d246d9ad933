"""The in-process engine against transformers' own `generate`, on tiny random models."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from secondnature.engines.chat import encode  # noqa: E402
from secondnature.engines.models import locate  # noqa: E402
from secondnature.engines.transformers import TransformersEngine, common_prefix, distinct, sample  # noqa: E402
from secondnature.types import Decoding, Message, Reply, Request, UserError  # noqa: E402
from tiny import tiny_adapter, tiny_model  # noqa: E402

pytestmark = pytest.mark.model
PROMPTS = ["hello", "what is the capital of france", "the same beginning and one end", "the same beginning and another"]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma"])
def folder(request: Any, tmp_path_factory: Any) -> Path:
    return tiny_model(tmp_path_factory.mktemp(request.param), request.param)


def open_engine(folder: Path, **options: Any) -> TransformersEngine:
    return TransformersEngine(locate(str(folder)), dtype="float32", device="cpu", **options)


def replies(engine: TransformersEngine, requests: list[Request]) -> list[Reply]:
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


def test_greedy_replies_equal_generate_with_and_without_an_adapter(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = tiny_adapter(folder, tmp_path / "adapter")
    engine = open_engine(folder)
    engine.load_adapter("mine", str(adapter))
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = [generated(base, engine.tokenizer, text) for text in PROMPTS]
    adapted = PeftModel.from_pretrained(base, str(adapter))
    expected += [generated(adapted, engine.tokenizer, text) for text in PROMPTS]
    asked = [request(text, adapter=name) for name in (None, "mine") for text in PROMPTS]
    assert [reply.text for reply in replies(engine, asked)] == expected
    assert len(set(expected[: len(PROMPTS)])) > 1, "all replies are the same: the test would be blind"
    assert expected[: len(PROMPTS)] != expected[len(PROMPTS) :], "the adapter changes nothing: the test would be blind"
    engine.close()


def test_one_row_at_a_time_gives_the_same_greedy_replies_as_a_batch(folder: Path) -> None:
    together, alone = open_engine(folder), open_engine(folder, max_rows=1)
    asked = [request(text) for text in PROMPTS]
    assert [r.text for r in replies(together, asked)] == [r.text for r in replies(alone, asked)]
    together.close()
    alone.close()


def test_a_reply_counts_its_tokens_and_says_how_it_ended(folder: Path) -> None:
    engine = open_engine(folder)
    [short] = replies(engine, [request("hello", max_tokens=3)])
    assert (short.finish, short.completion_tokens) == ("length", 3)
    assert short.prompt_tokens == engine.count_tokens([Message("user", "hello")])
    engine.stop_ids = set(range(engine.model.config.vocab_size))  # any token ends a reply
    [stopped] = replies(engine, [request("hello")])
    assert (stopped.finish, stopped.completion_tokens, stopped.text) == ("stop", 1, "")
    engine.close()


def test_a_seed_decides_a_sampled_reply_and_seeds_differ(folder: Path) -> None:
    engine = open_engine(folder)
    first, again = (replies(engine, [request("hello", seed=s) for s in range(8)]) for _ in range(2))
    assert [r.text for r in first] == [r.text for r in again]
    assert len({r.text for r in first}) > 1
    engine.close()


def test_a_prompt_longer_than_the_context_is_refused(folder: Path) -> None:
    engine = open_engine(folder)
    with pytest.raises(UserError, match="context"):
        replies(engine, [request("word " * 2000)])
    engine.close()


def test_sampling_follows_the_nucleus_distribution() -> None:
    probabilities = torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04])
    rows = 20_000
    drawn = sample(
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
    drawn = sample(torch.zeros(rows, vocabulary), torch.ones(rows), torch.full((rows,), 0.9), uniform)
    assert len(set(drawn.tolist())) == pytest.approx(450, abs=5)


def test_temperature_zero_is_the_most_likely_token_whatever_the_others_do() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.1, 0.0]])
    token = sample(logits, torch.tensor([0.0, 5.0]), torch.ones(2), torch.tensor([0.9, 0.99]))
    assert token[0] == 1


def test_prefixes_and_distinct_prompts() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert common_prefix([[1, 2], [1, 2]]) == 1, "every prompt keeps a token of its own"
    assert distinct([[1], [2], [1]]) == ([[1], [2]], [0, 1, 0])
