"""The scheduler: what is drawn, what is not drawn again, and what becomes of errors."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from scripted import Scripted
from secondnature.answers import KINDS, AnswerKind
from secondnature.sampling import AHEAD, MissingCall, Model, System, draw, in_order
from secondnature.store import Store
from secondnature.techniques import load_technique
from secondnature.types import Ask, Decoding, Example, Message, Reply, Request, Sample, UserError
from secondnature.verifier import Verifier, verify
from secondnature.vote import Rule

EXAMPLE = Example("e1", (Message("user", "Is it?"),))
WARM = Decoding(0.7, 0.9, 16)
YES_NO = KINDS["yes_no"]
ANY_TEXT = AnswerKind("any", "any text", lambda example, text: text, str, "text")
SEVEN_TENTHS = 0.7


async def once(example: Example, ask: Ask) -> str:
    return await ask(example.messages)


async def twice_the_same(example: Example, ask: Ask) -> str:
    return " ".join([await ask("again"), await ask("again")])


async def all_at_once(example: Example, ask: Ask) -> str:
    return " ".join(await asyncio.gather(*(ask(f"part {i}") for i in range(5))))


def model_with(engine: Scripted) -> Model:
    return Model(Store(Path(":memory:")), engine.identity, engine)


def drawn(model: Model, system: System, index: int = 0, example: Example = EXAMPLE) -> Sample:
    return asyncio.run(draw(model, system, example, index, YES_NO))


def key(*, identity: str = "w", messages: Sequence[Message] = EXAMPLE.messages, index: int = 0, **system: Any) -> str:
    """The key of the one call that a system makes."""
    model = model_with(Scripted(identity={"weights": identity}))
    values: dict[str, Any] = {"technique": once, "decoding": WARM, **system}
    whole = System(**values)
    [call] = drawn(model, whole, index, replace(EXAMPLE, messages=tuple(messages))).trace
    return call.key


# --- what is drawn


def test_messages_may_be_mappings() -> None:
    async def mapped(example: Example, ask: Ask) -> str:
        first = await ask([{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}])
        return first + await ask([{"role": "assistant", "content": first}, Message("user", "And?")])

    engine = Scripted()
    model = model_with(engine)
    drawn(model, System(mapped, WARM))
    assert engine.asked[0].messages == (Message("system", "Be short."), Message("user", "Why?"))
    assert engine.asked[1].messages == (Message("assistant", "yes"), Message("user", "And?"))

    async def same(example: Example, ask: Ask) -> str:
        return await ask([Message("system", "Be short."), Message("user", "Why?")])

    drawn(model, System(same, WARM))
    assert len(engine.asked) == 2, "a mapping is the same call as the message"


def test_a_stored_call_is_not_drawn_again() -> None:
    engine = Scripted(lambda r: str(r.seed))
    model = model_with(engine)
    first = drawn(model, System(once, WARM))
    assert drawn(model, System(once, WARM)) == first
    assert len(engine.asked) == model.drawn.calls == 1


def test_the_store_alone_answers_where_there_is_no_engine_and_says_what_to_run_where_it_cannot() -> None:
    engine = Scripted()
    model = model_with(engine)
    sample = drawn(model, System(once, WARM))
    offline = Model(model.store, engine.identity)
    assert drawn(offline, System(once, WARM)) == sample
    with pytest.raises(MissingCall, match="secondnature sample"):
        drawn(offline, System(once, WARM), index=1)


def test_a_reply_is_stored_before_it_is_used() -> None:
    engine = Scripted()
    model = model_with(engine)
    found: list[int] = []

    async def looks(example: Example, ask: Ask) -> str:
        text = await ask(example.messages)
        found.append(len(model.store))
        return text

    drawn(model, System(looks, WARM))
    assert found == [1]


def test_equal_greedy_calls_are_made_once_whatever_the_sample() -> None:
    engine = Scripted()
    model = model_with(engine)
    greedy = System(twice_the_same, WARM).greedy()

    async def several() -> list[Sample]:
        return await asyncio.gather(*(draw(model, greedy, EXAMPLE, i, YES_NO) for i in range(4)))

    samples = asyncio.run(several())
    assert len(engine.asked) == 1
    assert engine.asked[0].seed is None
    assert [len(s.trace) for s in samples] == [2, 2, 2, 2]


def test_prompts_that_come_twice_are_paid_once() -> None:
    engine = Scripted(lambda r: "yes" if r.seed and r.seed % 3 else "no")
    model = model_with(engine)
    copy = replace(EXAMPLE, id="e2")
    vote = Verifier(Rule(6, 0.5), YES_NO, full_n=True)

    async def both() -> list[Any]:
        return await asyncio.gather(*(verify(model, System(once, WARM), e, vote) for e in (EXAMPLE, copy)))

    first, second = asyncio.run(both())
    assert first.samples == second.samples
    assert len(engine.asked) == 6


def test_a_sampled_call_asked_twice_in_one_sample_is_two_calls_with_seeds_of_their_own() -> None:
    engine = Scripted(lambda r: str(r.seed))
    sample = drawn(model_with(engine), System(twice_the_same, WARM))
    first, second = sample.text.split()
    assert first != second
    assert len({r.seed for r in engine.asked}) == 2


def test_a_technique_may_gather_its_calls() -> None:
    engine = Scripted(lambda r: r.messages[0].content[-1])
    model = model_with(engine)
    assert drawn(model, System(all_at_once, WARM)).text == "0 1 2 3 4"
    assert len(engine.asked) == 5
    assert drawn(model, System(all_at_once, WARM)).text == "0 1 2 3 4"
    assert len(engine.asked) == 5


@pytest.mark.parametrize(
    "other",
    [
        {"identity": "other weights"},
        {"adapter": "a"},
        {"messages": [Message("user", "Is it? ")]},
        {"messages": [Message("system", "Be brief."), *EXAMPLE.messages]},
        {"decoding": replace(WARM, temperature=0.8)},
        {"decoding": replace(WARM, top_p=0.8)},
        {"decoding": replace(WARM, max_tokens=17)},
        {"decoding": replace(WARM, temperature=0.0)},
        {"index": 1},
        {"cold": True},
    ],
)
def test_all_that_decides_a_reply_is_in_its_key(other: dict[str, Any]) -> None:
    assert key() == key()
    assert key(**other) != key()


def test_top_p_and_the_sample_number_do_not_change_a_greedy_key_but_the_token_limit_does() -> None:
    greedy = replace(WARM, temperature=0.0)
    assert key(decoding=greedy) == key(decoding=replace(greedy, top_p=0.1)) == key(decoding=greedy, index=5)
    assert key(decoding=greedy) != key(decoding=replace(greedy, max_tokens=17))


def test_the_seed_follows_from_the_key() -> None:
    engines = Scripted(), Scripted()
    for engine in engines:
        drawn(model_with(engine), System(once, WARM), index=3)
    assert engines[0].asked == engines[1].asked
    assert engines[0].asked[0].seed is not None


def test_an_error_that_comes_when_nobody_waits_any_more_is_not_complained_of() -> None:
    complaints: list[dict[str, Any]] = []

    async def answer_late(request: Request) -> Reply:
        await asyncio.sleep(0.01)
        raise UserError("too late")

    engine = Scripted()
    engine.reply = answer_late  # type: ignore[method-assign]
    model = model_with(engine)

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        waiting = asyncio.create_task(draw(model, System(once, WARM), EXAMPLE, 0, YES_NO))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0.03)
        gc.collect()

    asyncio.run(leave())
    assert complaints == []


# --- samples and votes


def test_a_sample_counts_all_its_calls() -> None:
    sample = drawn(model_with(Scripted()), System(twice_the_same, WARM))
    assert (sample.prompt_tokens, sample.completion_tokens, sample.seconds) == (6, 4, 1.0)


def test_a_reply_cut_off_anywhere_fails_the_sample_and_stops_the_technique() -> None:
    engine = Scripted(lambda r: "The answer is: yes", finish="length")
    sample = drawn(model_with(engine), System(twice_the_same, WARM))
    assert (sample.answer, sample.failure) == (None, "truncated")
    assert len(engine.asked) == 1


def test_a_reply_cut_off_among_gathered_ones_fails_the_sample() -> None:
    sample = drawn(model_with(Scripted(finish="length")), System(all_at_once, WARM))
    assert (sample.answer, sample.failure) == (None, "truncated")


def test_an_output_without_an_answer_is_unreadable() -> None:
    sample = drawn(model_with(Scripted(lambda r: "Who knows.")), System(once, WARM))
    assert (sample.answer, sample.failure, sample.text) == (None, "unparsable", "Who knows.")


def test_the_vote_is_the_same_with_all_samples_drawn_and_with_early_stopping() -> None:
    def answer(request: Request) -> str:
        luck = (request.seed or 0) / 2**64
        return "yes" if luck < SEVEN_TENTHS else "no" if luck < 0.9 else "Perhaps."

    early, full = model_with(Scripted(answer)), model_with(Scripted(answer))
    stopped = kept = 0
    for number in range(40):
        example = Example(str(number), (Message("user", f"Question {number}?"),))
        results = [
            asyncio.run(verify(model, System(once, WARM), example, Verifier(Rule(8, 0.75), YES_NO, full_n=full_n)))
            for model, full_n in ((early, False), (full, True))
        ]
        assert results[0].outcome.key == results[1].outcome.key
        assert results[0].samples == results[1].samples[: len(results[0].samples)]
        assert len(results[1].samples) == 8
        assert results[0].stopped_early == (len(results[0].samples) < 8)
        stopped += results[0].stopped_early
        kept += results[0].outcome.key is not None
    assert 0 < kept < 40
    assert stopped > 20


# --- errors


async def breaks(example: Example, ask: Ask) -> str:
    await ask(example.messages)
    return example["no such field"]


async def forgets_to_return(example: Example, ask: Ask) -> Any:
    await ask(example.messages)


def test_a_techniques_own_error_is_one_line_that_names_the_file_and_the_line() -> None:
    with pytest.raises(UserError, match=r"failed on e1: KeyError: 'no such field' \(.*\.py:\d+\)"):
        drawn(model_with(Scripted()), System(breaks, WARM))


def test_the_line_named_is_in_the_users_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("async def bad(example, ask):\n    await ask(example.text)\n    return 1 / 0\n")
    technique: Any = load_technique(f"{file}:bad", {})
    technique.load()
    with pytest.raises(UserError, match=r"ZeroDivisionError: .*mine\.py:3\)"):
        drawn(model_with(Scripted()), System(technique, WARM))


def test_a_technique_that_returns_no_text_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="e1.*NoneType"):
        drawn(model_with(Scripted()), System(forgets_to_return, WARM))


def test_an_engines_user_error_is_passed_on_as_it_is() -> None:
    def refuse(request: Request) -> str:
        raise UserError("too long")

    with pytest.raises(UserError, match="^too long$"):
        drawn(model_with(Scripted(refuse)), System(once, WARM))


# --- order


def collected(items: Sequence[int], context: Callable[[int], Coroutine[Any, Any, int]], width: int) -> list[int]:
    async def collect() -> list[int]:
        return [result async for result in in_order(items, context, width)]

    return asyncio.run(collect())


def test_in_order_keeps_the_order_and_works_on_no_more_than_its_width() -> None:
    working: set[int] = set()
    most = 0

    async def context(item: int) -> int:
        nonlocal most
        working.add(item)
        most = max(most, len(working))
        await asyncio.sleep((item * 7 % 5) / 1000)
        working.remove(item)
        return item * 10

    assert collected(range(30), context, 4) == [i * 10 for i in range(30)]
    assert most == 4


def test_in_order_waits_for_a_slow_item_when_it_is_far_ahead() -> None:
    begun: list[int] = []
    seen: list[int] = []

    async def context(item: int) -> int:
        begun.append(item)
        while item == 0 and len(begun) < 4 * AHEAD:
            await asyncio.sleep(0.001)
        if item == 0:
            await asyncio.sleep(0.02)
            seen.append(len(begun))
        return item

    assert collected(range(100), context, 4) == list(range(100))
    assert seen == [4 * AHEAD], "no more are in memory while the first is not done"


def test_in_order_cancels_what_is_running_when_one_fails() -> None:
    cancelled: list[int] = []

    async def context(item: int) -> int:
        try:
            await asyncio.sleep(0.001 if item == 1 else 10)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        raise UserError("number one")

    with pytest.raises(UserError, match="number one"):
        collected([1, 2, 3, 4, 5], context, 3)
    assert cancelled == [2, 3]


def test_in_order_cancels_what_is_running_when_the_reader_stops() -> None:
    cancelled: list[int] = []

    async def context(item: int) -> int:
        try:
            await asyncio.sleep(0 if item == 0 else 10)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    async def stop_after_one() -> None:
        results = in_order(range(9), context, 3)
        assert await anext(results) == 0
        await asyncio.sleep(0)
        await results.aclose()

    asyncio.run(stop_after_one())
    assert {1, 2} <= set(cancelled) <= {1, 2, 3}, "whether a fourth has begun is up to Python's version"


def test_what_a_model_thought_is_kept_and_not_given_to_the_technique() -> None:
    async def thinking(example: Example, ask: Ask) -> str:
        return "|".join([await ask("q", thinking=True), await ask("q")])

    engine = Scripted(lambda request: "<think>hm</think>yes" if request.thinking else "no")
    model = Model(Store(Path(":memory:")), engine.identity, engine)
    drawn = asyncio.run(draw(model, System(thinking, WARM), EXAMPLE, 0, ANY_TEXT))
    assert drawn.text == "yes|no"
    assert [call.reply.text for call in drawn.trace] == ["<think>hm</think>yes", "no"]
    assert len({call.key for call in drawn.trace}) == 2


def test_a_trace_is_in_the_order_of_asking_whatever_answers_first() -> None:
    @dataclass
    class Uneven(Scripted):
        async def reply(self, request: Request) -> Reply:
            await asyncio.sleep(0.02 if request.messages[0].content == "part 0" else 0)
            return await Scripted.reply(self, request)

    engine = Uneven(lambda request: request.messages[0].content)
    model = Model(Store(Path(":memory:")), engine.identity, engine)
    drawn = asyncio.run(draw(model, System(all_at_once, WARM), EXAMPLE, 0, ANY_TEXT))
    assert [call.reply.text for call in drawn.trace] == [f"part {i}" for i in range(5)]


# techniques that ask several things at once

CUT = {"Long?": Reply("so long that", "length", 3, 16, 0.01)}
BRANCHES = """
import asyncio

async def gathered(example, ask):
    async def branch(first, *rest):
        said = await ask(first)
        for question in rest:
            said = await ask(question + said)
        return said

    parts = [branch("Short?", "And then? "), branch("Long?")]
    {run}
    return "yes"
"""
RUNS = {
    "gather": "await asyncio.gather(*parts)",
    "task group": """async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part)""",
}


@pytest.mark.parametrize("run_them", RUNS)
def test_branches_that_are_asking_when_another_is_cut_off_are_stored_and_found_again(
    run_them: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BRANCHES.format(run=RUNS[run_them]))

    def system() -> System:
        technique: Any = load_technique(f"{file}:gathered", {})
        technique.load()
        return System(technique, WARM)

    class Slow(Scripted):
        async def reply(self, request: Request) -> Reply:
            if (cut := CUT.get(request.messages[-1].content)) is not None:
                return cut
            await asyncio.sleep(0.05)  # the short branches are in flight when the long one is truncated
            return await super().reply(request)

    model = model_with(Slow())
    sample = drawn(model, system())
    assert (sample.failure, sample.text) == ("truncated", "so long that")
    assert model.store is not None
    asked = len(model.store)
    assert asked == (3 if run_them == "gather" else 2), (
        "a gathered branch goes on to its end; a task group ends the others"
    )
    again = Model(model.store, model.identity)
    assert drawn(again, system()) == sample, "with no engine"
    online = Model(model.store, model.identity, Slow())
    assert drawn(online, system()).failure == "truncated"
    assert len(model.store) == 3, "what was gathered is not drawn anew; what a task group ended may come further"
