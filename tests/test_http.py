"""The engine for OpenAI-compatible endpoints, over a real socket, against a server that fails in all ways that real ones do."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from conftest import Finished
from faulty_server import EVERY_FAULT, FaultyServer, running, said
from secondnature.engines import http_client, open_engine
from secondnature.engines.base import after_thinking
from secondnature.engines.endpoint import Budget, HTTPOptions, parse_endpoint
from secondnature.engines.http import HTTPEngine
from secondnature.engines.http_client import AdaptiveConcurrency, retry_after
from secondnature.engines.http_reply import RetryableError, read_completion
from secondnature.types import Decoding, Message, Reply, Request, UserError

pytestmark = pytest.mark.usefixtures("trusting")

SLOW = ("429-date", "drip", "hang")
KEY = "sk-proj-tr0ub4dor-and-3"
Cli = Callable[..., Finished]
Recipes = Callable[..., Path]
Serve = Callable[..., FaultyServer]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are those of the tests; the user's key is not."""
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(http_client, "MAX_BACKOFF", 0.1)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(running(FaultyServer(**options)))


def opened(server: FaultyServer, **options: Any) -> HTTPEngine:
    return HTTPEngine(f"{server.url}#small", HTTPOptions(**{"max_retries": 6, "timeout": 5.0, **options}))


def warm(number: int, text: str = "Is it?") -> list[Request]:
    return [Request((Message("user", text),), Decoding(0.7, 0.9, 16), seed) for seed in range(number)]


def replies(engine: HTTPEngine, requests: list[Request]) -> list[Reply]:
    async def all_replies() -> list[Reply]:
        return await asyncio.gather(*(engine.reply(r) for r in requests))

    try:
        return asyncio.run(all_replies())
    finally:
        engine.close()


def choice(text: Any = "yes", index: Any = 0, finish: Any = "stop", **message: Any) -> dict[str, Any]:
    return {"index": index, "message": {"content": text, **message}, "finish_reason": finish}


def texts(*choices: dict[str, Any], **usage: Any) -> list[tuple[str, str]]:
    read = read_completion(json.dumps({"choices": choices, "usage": usage}).encode(), 20)
    return [(c.text, c.finish) for c in read.choices]


def refused(done: Finished, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    for word in words:
        assert word in line, line


# --- what a server said


def test_choices_are_read_in_any_order_and_each_once() -> None:
    assert texts(choice("b", 1), choice("a", 0)) == [("a", "stop"), ("b", "stop")]
    assert texts(choice("a", 0), choice("a", 0), choice("b", 0)) == [("a", "stop"), ("b", "stop")]
    assert texts(choice("a", "x"), choice("b", None)) == [("a", "stop"), ("b", "stop")]


def test_only_what_can_be_an_answer_is_used() -> None:
    assert texts(choice(None), choice("", 1), {"index": 2}, choice(["a"], 3), choice("a", 4, "tool_calls")) == []
    assert texts(choice("half", 0, "length"), choice("bad", 1, "content_filter")) == [
        ("half", "length"),
        ("bad", "length"),
    ]
    assert texts(choice(None, 0, "length")) == [("", "length")], "truncated while it still thought"
    assert texts(choice(None, 0, "stop", reasoning="hm")) == [("<think>\nhm\n</think>\n\n", "stop")]
    assert texts(choice("", 0), completion_tokens=1) == [("", "stop")], (
        "the end of turn alone is the model's own silence"
    )
    assert texts(choice("half \ud800")) == [("half ?", "stop")], "what cannot be stored is replaced"


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"null", b'{"choices": 7}', b'{"choices": [', b"\xff", b"[" * 100_000, b'{"choices": {}}']
)
def test_what_is_no_completion_is_asked_for_again(body: bytes) -> None:
    with pytest.raises(RetryableError):
        read_completion(body, 20)


def test_tokens_are_shared_by_length_and_estimated_where_none_are_counted() -> None:
    body = json.dumps({"choices": [choice("a" * 30, 0), choice("a" * 10, 1)], "usage": {"completion_tokens": 9}})
    read = read_completion(body.encode(), 20)
    assert sum(c.completion_tokens for c in read.choices) == 9
    assert read.choices[0].completion_tokens > read.choices[1].completion_tokens
    odd = {"choices": [choice("a" * 30)], "usage": {"prompt_tokens": "7", "completion_tokens": -1}}
    read = read_completion(json.dumps(odd).encode(), 20)
    assert (read.prompt_tokens, read.completion_tokens) == (5, 8)


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    assert retry_after({"retry-after": "2"}) == 2
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({"retry-after": formatdate(time.time() + 10, usegmt=True)}) == pytest.approx(9.5, abs=1)
    assert retry_after({"retry-after": formatdate(0, usegmt=True)}) == 0
    for broken in ("", "soon", "-1", "1e9", "²"):
        assert retry_after({"retry-after": broken}) is None


def test_the_pace_falls_once_for_a_burst_and_rises_while_latency_allows() -> None:
    pace = AdaptiveConcurrency(32)
    for _ in range(20):
        pace.overloaded(sent=1.0, now=2.0)
    assert pace.limit == 32 * http_client.DECREASE
    for _ in range(32 * 4):
        pace.succeeded(1, 1.0, full=True)
    assert 30 < pace.limit < 31, "fast at first, and slowly near where it fell"
    before = pace.limit
    for _ in range(200):
        pace.succeeded(1, 5.0, full=True)
    assert pace.limit < before + 0.5, "a server that queues is not asked for more"
    for _ in range(300):
        pace.overloaded(sent=3.0, now=2.0)
    assert pace.limit == 1


# --- names


@pytest.mark.parametrize(
    "model",
    [
        "http://me:secret@host/v1#x",
        "https://secret@host/v1#x",
        "http://me:sec#secret@host/v1#x",
        "http://h/v1?key=secret#x",
        "http://host:port-secret/v1#x",
        "http://[secret/v1#x",
        "http:///v1#secret",
    ],
)
def test_an_address_with_a_secret_or_a_fault_is_refused_and_not_repeated(
    model: str, recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refusal:
        parse_endpoint(model)
    assert "secret" not in str(refusal.value)
    done = cli("distill", recipe(model=model, engine=None), "--out", tmp_path / "run", "--quiet")
    refused(done, "model: an endpoint")
    assert "secret" not in done.stderr.replace(str(tmp_path), "")  # the folder has this test's name
    assert not (tmp_path / "run").exists()


def test_kinds_and_models_that_do_not_fit_are_refused(serve: Serve) -> None:
    for model, kind in (("bundled:smollm2-135m", "http"), ("http://host/v1#x", "transformers")):
        with pytest.raises(UserError, match=r"named as http://host:8000/v1#served-name"):
            open_engine(model, kind, "auto", "auto")
    engine = open_engine(f"{serve().url}/#small", "auto", "auto", "auto")
    assert engine.concurrency >= 32
    engine.close()


def test_which_model_is_served_is_in_the_identity_and_where_and_since_when_is_not(serve: Serve) -> None:
    one = serve()
    other = serve(models=({"id": "small", "root": "org/small", "max_model_len": 99, "created": 2},))
    engines = [opened(one), opened(other)]
    assert engines[0].identity == engines[1].identity
    assert dict(engines[0].identity) == {"weights": "small", "root": "org/small", "engine": "http"}
    assert engines[1].context_length == 99
    for engine in engines:
        engine.close()


def test_a_wrong_name_says_what_is_served(serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    server = serve()
    run = tmp_path / "run"
    refused(
        cli("distill", recipe(model=f"{server.url}#smal", engine=None), "--out", run, "--quiet"),
        "does not serve 'smal' (did you mean 'small'?); it serves: small",
    )
    refused(cli("distill", recipe(model=server.url, engine=None), "--out", run, "--quiet"), "it serves: small")


def test_a_server_that_is_not_there_or_is_something_else(
    serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1#small"
    run = tmp_path / "run"
    refused(cli("distill", recipe(model=address, engine=None), "--out", run, "--quiet"), "is the server running")
    elsewhere = serve().url.replace("/v1", "/v2#small")
    refused(cli("distill", recipe(model=elsewhere, engine=None), "--out", run, "--quiet"), "HTTP 404", "in /v1?")


# --- drawing


@pytest.mark.parametrize("n", ["honour", "ignore", "refuse", "short"])
def test_nothing_is_paid_twice_and_nothing_is_lost_whatever_a_server_makes_of_n(n: str, serve: Serve) -> None:
    server = serve(n=n, shuffled=True)
    engine = opened(server, concurrency=4)
    asked = [request for i in range(6) for request in warm(8, f"Is {i}?")]
    got = replies(engine, asked)
    assert server.done["delivered"] == len(asked)
    assert len({reply.text for reply in got}) > 40
    if n == "honour":
        assert len(server.asked) < len(asked) / 2, "once it has shown that it can, it draws many at once"
    else:
        assert sum("n" in body for body in server.asked) == 1, "it is tried once"


def test_copies_are_not_votes(serve: Serve) -> None:
    server = serve(n="copy")
    got = replies(opened(server), [r for i in range(10) for r in warm(8, f"Is {i}?")])
    assert 1 <= sum("n" in body for body in server.asked) <= 4
    sure = {said([{"role": "user", "content": f"Is {i}?"}], s, "small")[0] for i in range(10) for s in range(8)}
    assert {reply.text for reply in got} == sure, "each sample is a draw of its own"
    assert server.done["delivered"] == 80, "a copy is not a reply; it was paid for in at most four trials"


def test_choices_beyond_those_asked_for_serve_samples_that_wait(serve: Serve) -> None:
    server = serve(n="more")
    got = replies(opened(server, concurrency=1), warm(12))
    assert len(got) == 12
    assert len(server.asked) < 12


@pytest.mark.parametrize(("owner", "sent"), [("vllm", True), ("llamacpp", True), ("somebody", False)])
def test_the_thinking_switch_is_sent_where_it_is_known_to_be_taken_or_asked_for(
    owner: str, sent: bool, serve: Serve
) -> None:
    server = serve(models=({"id": "small", "owned_by": owner},))
    plain = Request((Message("user", "Is it?"),), Decoding(), None)
    replies(opened(server), [plain])
    replies(opened(server), [replace(plain, thinking=True)])
    off, on = (body.get("chat_template_kwargs") for body in server.asked)
    assert off == ({"enable_thinking": False, "thinking": False} if sent else None)
    assert on == {"enable_thinking": True, "thinking": True}


@pytest.mark.parametrize(("owner", "sent"), [("vllm", True), ("sglang", True), ("llamacpp", True), ("somebody", False)])
def test_a_cold_request_asks_a_server_that_can_to_leave_its_prefix_cache_alone(
    owner: str, sent: bool, serve: Serve
) -> None:
    server = serve(models=({"id": "small", "owned_by": owner},))
    cold = Request((Message("user", "Is it?"),), Decoding(), None, cold=True)
    for one in (replace(cold, cold=False), cold, cold):
        replies(opened(server), [one])
    switches = [(body.get("cache_salt"), body.get("cache_prompt")) for body in server.asked]
    assert switches[0] == (None, None)
    assert [prompt for _, prompt in switches[1:]] == [False if sent else None] * 2
    assert len({salt for salt, _ in switches}) == (3 if sent else 1), "a salt that comes again would find its cache"


def test_log_probabilities_are_asked_for_and_averaged_only_where_wanted(serve: Serve) -> None:
    tokens = [{"token": "yes", "logprob": -0.25}, {"token": ".", "logprob": -0.75}]
    with_logprobs = {
        "choices": [{**choice("yes."), "logprobs": {"content": tokens}}],
        "usage": {"completion_tokens": 2},
    }
    server = serve(script=[(200, {}, with_logprobs), (200, {}, with_logprobs)])
    plain = Request((Message("user", "Is it?"),), Decoding(), None)
    [asked] = replies(opened(server), [replace(plain, logprobs=True)])
    [unasked] = replies(opened(server), [plain])
    assert (asked.logprob, unasked.logprob) == (-0.5, None)
    assert [body.get("logprobs") for body in server.asked] == [True, None]


def test_what_a_server_gives_apart_as_thinking_is_in_the_reply_and_not_in_the_answer(serve: Serve) -> None:
    server = serve(script=[(200, {}, {"choices": [choice("no", reasoning_content="It is odd.")], "usage": {}})])
    [reply] = replies(opened(server), [Request((Message("user", "Is it?"),), Decoding(), None, thinking=True)])
    assert reply.text == "<think>\nIt is odd.\n</think>\n\nno"
    assert after_thinking(reply.text) == "no"
    assert after_thinking("It is odd.</think>no") == "no", "some templates open the thought themselves"
    assert after_thinking("<think>It is odd, or") == "", "a thought without an end is no answer"
    assert after_thinking("no") == "no"


def test_greedy_requests_are_asked_one_by_one_and_without_a_seed(serve: Serve) -> None:
    server = serve()
    request = Request((Message("user", "Is it?"),), Decoding(0.0, 0.9, 16), None)
    replies(opened(server), [request, request])
    assert [sorted(body) for body in server.asked] == [["max_tokens", "messages", "model", "temperature"]] * 2


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_each_fault_is_survived(fault: str, serve: Serve) -> None:
    server = serve(faults={fault: 0.3}, n="ignore")
    asked = warm(24)
    got = replies(opened(server, timeout=0.15, concurrency=8, max_retries=12), asked)
    assert server.done[fault] > 0
    assert [r.text for r in got] == [said([{"role": "user", "content": "Is it?"}], s, "small")[0] for s in range(24)]
    assert server.done["delivered"] == 24


def test_a_server_is_left_alone_for_as_long_as_it_asks(serve: Serve) -> None:
    server = serve(script=[(429, {"Retry-After": "0.4"}, {"error": "slow down"})])
    replies(opened(server, concurrency=2), warm(6))
    pauses = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert max(pauses) >= 0.35
    asks_long = serve(script=[(429, {"Retry-After": "99999"}, "x")])
    with pytest.raises(UserError, match=r"asks to wait 99999 s.*run the same command again"):
        replies(opened(asks_long), warm(1))


def test_retries_are_bounded_and_what_the_server_says_is_shown_in_one_printable_line(serve: Serve) -> None:
    server = serve(faults={"500": 1.0})
    with pytest.raises(
        UserError, match=r"HTTP 500: <html> \[31moh no</html>\), 3 times: .*run the same command"
    ) as end:
        replies(opened(server, max_retries=2), warm(1))
    assert str(end.value).isprintable()
    assert len(server.asked) == 3


def test_a_model_that_says_nothing_has_said_nothing(serve: Serve) -> None:
    server = serve(faults={"blank": 1.0})
    [reply] = replies(opened(server, max_retries=2), warm(1))
    assert (reply.text, reply.finish, len(server.asked)) == ("", "stop", 3)
    with pytest.raises(UserError, match="a choice without text"):
        replies(opened(serve(faults={"null": 1.0}), max_retries=2), warm(1))


def test_what_is_in_flight_at_an_error_is_still_delivered(serve: Serve) -> None:
    too_long = (400, {}, {"error": {"message": "maximum context length is 4096 tokens"}})
    server = serve(script=[too_long], delay=0.05)
    engine = opened(server)

    async def draw() -> list[Reply | BaseException]:
        asked = [request for i in range(40) for request in warm(1, f"Is {i}?")]
        return await asyncio.gather(*(engine.reply(r) for r in asked), return_exceptions=True)

    got = asyncio.run(draw())
    engine.close()
    assert sum(isinstance(reply, Reply) for reply in got) == 31 == server.done["delivered"]
    assert len(server.asked) == 32, "nothing more goes out"
    [message] = {str(reply) for reply in got if isinstance(reply, UserError)}
    assert "maximum context length" in message
    assert "shorten the prompt, or lower sampling.max_tokens" in message


def test_a_closed_engine_fails_what_waits_and_what_comes(serve: Serve) -> None:
    engine = opened(serve(faults={"hang": 1.0}, hang=5))

    async def close_while_drawing() -> list[Reply | BaseException]:
        drawing = [asyncio.create_task(engine.reply(r)) for r in warm(40)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(engine.close)
        return await asyncio.gather(*drawing, return_exceptions=True)

    ends = asyncio.run(close_while_drawing())
    assert all(isinstance(end, RuntimeError) and "closed" in str(end) for end in ends)
    with pytest.raises(RuntimeError, match="closed"):
        replies(engine, warm(1))


def test_a_server_with_fixed_slots_is_kept_busy_and_not_overrun(serve: Serve) -> None:
    server = serve(slots=8, delay=0.01, n="ignore")
    engine = opened(server, concurrency=32, max_retries=30)
    got = replies(engine, warm(400))
    assert len(got) == 400 == server.done["delivered"]
    assert server.done["429"] < 200


# --- adapters


def test_an_adapter_is_loaded_by_the_server_or_the_user_learns_how_to_serve_it(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 16}')
    able = serve(lora=True)
    engine = opened(able)
    engine.load_adapter("abc", str(tmp_path))
    request = Request((Message("user", "Is it?"),), Decoding(), None, "abc")
    assert replies(engine, [request])[0].text
    assert able.asked[-1]["model"] == "abc"

    unable = opened(serve())
    with pytest.raises(UserError, match=r"--enable-lora --max-lora-rank 16 --lora-modules abc="):
        unable.load_adapter("abc", str(tmp_path))
    unable.close()

    served = opened(serve(models=({"id": "small"}, {"id": "abc"})))
    served.load_adapter("abc", str(tmp_path))
    served.close()


def test_training_a_model_at_an_endpoint_needs_its_weights(
    serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = cli("distill", recipe(model=f"{serve().url}#small", engine=None), "--out", run, "--quiet")
    refused(done, "train.base", "curated.jsonl")
    for stage in ("evaluate", "report"):
        assert cli(stage, run, "--quiet").returncode == 0
    systems = json.loads((run / "report.json").read_text())["systems"]
    assert systems["system2"]["n"] == 8
    assert systems["distilled"] is None


# --- whole runs


def stored(run: Path) -> dict[str, tuple[Any, ...]]:
    db = sqlite3.connect(run / "calls.sqlite")
    rows = {key: rest for key, *rest in db.execute("SELECT key, text, finish, completion_tokens FROM calls")}
    db.close()
    return rows


def sampled(server: FaultyServer, recipe: Recipes, cli: Cli, run: Path, **engine: Any) -> dict[str, tuple[Any, ...]]:
    options = {"kind": "auto", "concurrency": 16, "timeout": 30, "max_retries": 14, **engine}
    file = recipe(prompts=30, model=f"{server.url}#small", engine=options, technique={"name": "rar"})
    refused(cli("distill", file, "--out", run, "--quiet"), "train.base")
    return stored(run)


def test_a_run_through_all_faults_is_that_of_a_server_without_any(
    serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    good, bad = (
        serve(n="ignore"),
        serve(n="ignore", faults={**dict.fromkeys(EVERY_FAULT, 0.02), **dict.fromkeys(SLOW, 0.006)}),
    )
    calm = sampled(good, recipe, cli, tmp_path / "calm")
    wild = sampled(bad, recipe, cli, tmp_path / "wild", timeout=1.5)
    assert len(bad.done) > len(EVERY_FAULT) - 2, "nearly every fault happened"
    assert wild == calm
    assert (tmp_path / "wild/curated.jsonl").read_bytes() == (tmp_path / "calm/curated.jsonl").read_bytes()
    assert (tmp_path / "calm/curated.jsonl").read_text()
    assert bad.done["delivered"] == good.done["delivered"] == len(calm), "nothing is paid twice"


def test_with_n_too_every_reply_that_was_paid_for_is_stored(
    serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    faults = {**dict.fromkeys(EVERY_FAULT, 0.02), **dict.fromkeys(SLOW, 0.0)}
    server = serve(faults=faults, shuffled=True)
    calls = sampled(server, recipe, cli, tmp_path / "run")
    assert server.done["delivered"] == len(calls)
    assert any(body.get("n", 1) > 1 for body in server.asked)


def test_a_killed_run_draws_no_stored_call_again(serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    server, run = serve(n="ignore", delay=0.02), tmp_path / "run"
    options = {"concurrency": 8}
    file = recipe(prompts=40, model=f"{server.url}#small", engine=options, technique={"name": "rar"})
    command = [sys.executable, "-m", "secondnature", "sample", str(run), "--recipe", str(file), "--quiet"]
    process = subprocess.Popen(command, env={**os.environ, "NO_COLOR": "1"})
    while process.poll() is None and server.done["delivered"] < 60:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = stored(run)
    assert before
    lost = server.done["delivered"] - len(before)
    assert lost <= 2 * 8 + 8, "no more than was in flight or on its way to the disk"
    again = len(server.asked)
    assert cli("sample", run, "--quiet").returncode == 0
    after = stored(run)
    assert before.items() <= after.items()
    assert len(server.asked) - again == len(after) - len(before)


@pytest.mark.parametrize(
    ("budget", "key"),
    [
        ({"max_tokens_total": 2000}, "engine.max_tokens_total"),
        ({"max_cost": 0.5, "price_per_million": {"prompt": 100, "completion": 300}}, "engine.max_cost"),
    ],
)
def test_a_budget_ends_a_run_cleanly_and_more_of_it_goes_on(
    budget: dict[str, Any], key: str, serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    server, run = serve(n="ignore"), tmp_path / "run"
    file = recipe(prompts=60, model=f"{server.url}#small", engine={"concurrency": 4, **budget})
    refused(cli("sample", run, "--recipe", file, "--quiet"), key, "run the same command with a higher")
    assert server.done["delivered"] == len(stored(run)) > 50, "what was in flight is stored"
    asked = len(server.asked)
    refused(cli("sample", run, "--quiet"), key)
    assert len(server.asked) == asked, "the budget is the run's, not that of one start"
    assert cli("sample", run, "--quiet", "--set", f"{key}=100000").returncode == 0
    assert server.done["delivered"] == len(stored(run))


def test_a_cost_without_prices_is_refused(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    file = recipe(model="http://host/v1#x", engine={"max_cost": 1})
    refused(cli("distill", file, "--out", tmp_path / "run"), "engine.max_cost needs price_per_million")
    assert Budget(max_cost=1.0, prices=(1.0, 2.0), prompt_tokens=10**6).used_up()


# --- keys


def test_a_key_is_sent_and_is_nowhere_else(
    serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(key=KEY)
    engine = opened(server)
    assert KEY not in repr(vars(engine)) + repr(engine._client)
    engine.close()
    run = tmp_path / "run"
    done = cli("sample", run, "--recipe", recipe(model=f"{server.url}#small", engine=None))
    assert done.returncode == 0
    monkeypatch.setenv("MY_KEY", "sk-wrong-0123456789")
    monkeypatch.setenv("SECONDNATURE_KEYS", "MY_KEY, NOT_SET")
    wrong = cli("evaluate", run, "--set", "engine.api_key_env=MY_KEY", "--quiet")
    refused(wrong, "HTTP 401", "MY_KEY", "Incorrect API key", "[key]")
    for text in [done.stderr, wrong.stderr, *(p.read_bytes().decode("latin-1") for p in run.rglob("*") if p.is_file())]:
        assert KEY not in text
        assert "sk-wrong-0123456789" not in text


def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(
    serve: Serve, recipe: Recipes, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"{serve().url}#small"
    done = cli("distill", recipe(model=model, engine={"api_key_env": KEY}), "--out", tmp_path / "run", "--quiet")
    refused(done, "engine.api_key_env", "name of the environment variable")
    assert KEY not in done.stderr
    monkeypatch.setenv("SECONDNATURE_KEYS", "NOT_SET")
    refused(
        cli("distill", recipe(model=model, engine={"api_key_env": "NOT_SET"}), "--out", tmp_path / "run", "--quiet"),
        "NOT_SET is not set",
    )
    monkeypatch.setenv("OPENAI_API_KEY", "sk-two\nlines")
    refused(
        cli("distill", recipe(model=model, engine=None), "--out", tmp_path / "run", "--quiet"),
        "OPENAI_API_KEY has characters",
    )


def test_a_short_placeholder_key_is_no_secret_to_hide() -> None:
    assert http_client.Client("http://h", "x", "K", 1).public("xylophone") == "xylophone"
