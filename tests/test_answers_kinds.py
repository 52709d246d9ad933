"""Verdicts, JSON, free text, options by their text: what is read, and what is no answer."""

import json

import pytest

from secondnature.answers import KINDS, label
from secondnature.tasks import answer_kind
from secondnature.types import Example, Message


def example(prompt: str = "?", **fields: str) -> Example:
    return Example("e", (Message("user", prompt),), fields)


VERDICTS: list[tuple[str, str | None]] = [
    ("A", "A"),
    ("**B**", "B"),
    ("(A)", "A"),
    ("B.", "B"),
    ("Tie", "tie"),
    ("tie.", "tie"),
    ("[[A]]", "A"),
    ("Both are fine, but B is clearer. [[B]]", "B"),
    ("[[C]]", "tie"),
    ("[[tie]]", "tie"),
    ("Response A is better", "A"),
    ("Assistant B", "B"),
    ("Verdict: tie", "tie"),
    ("**Verdict:** B", "B"),
    ("Final verdict: [[A]]", "A"),
    ("The answer is: B", "B"),
    ("\\boxed{A}", "A"),
    ("Neither is better.", "tie"),
    ("Both responses are equally good.", "tie"),
    ("Overall, it is a tie.", "tie"),
    ("Response A is short. Response B gives a source. I prefer Response B.", "B"),
    ("Response A is clearly the better one. Response B is off topic.", "A"),
    ("Response A has a slip. Response B has none.\n\nThe better response is B.", "B"),
    ("A is better than B.", "A"),
    ("Assistant A wins.", "A"),
    ("B: it answers what was asked", "B"),
    ("Response A is better in style. Response B is better in content.\nVerdict: B", "B"),
    ("Response A is better in style. Response B is better in content.", None),
    ("Response A is short. Response B is long.", None),
    ("A: Apple, pear.\nB: Banana, cherry.", None),
    ("Response A is not better.", None),
    ("If Response A is better, say so.", None),
    ("A good question.", None),
    ("[[A]] if A is better, [[B]] if B is better", None),
    ("I cannot judge this.", None),
    ("They are not equally good.", None),
    ("Verdict:", None),
    ("", None),
]


@pytest.mark.parametrize(("reply", "verdict"), VERDICTS)
def test_a_verdict_is_read_where_the_reply_decides(reply: str, verdict: str | None) -> None:
    assert KINDS["verdict"].extract(example(), reply) == verdict


JSON_REPLIES: list[tuple[str, object]] = [
    ('{"a": 1}', {"a": 1}),
    ('```json\n{"a": 1}\n```', {"a": 1}),
    ('Here it is:\n\n```\n{"a": {"b": [1, 2]}}\n```\nI hope this helps {you}.', {"a": {"b": [1, 2]}}),
    ('The object {"a": "x } y"} has one key.', {"a": "x } y"}),
    ('{"a": 1}\n\nAgain: {"a": 1.0}', {"a": 1}),
    ('First {"a": 1}, then better.\nThe answer is: {"a": 2}', {"a": 2}),
    ("{}", {}),
    ('{"a": 1} or {"a": 2}', None),
    ('{"a": {"b": 1}', None),
    ("{'a': 1}", None),
    ('[{"a": 1}, {"a": 2}]', None),
    ('{"a": NaN}', None),
    ('{"a": 1e999}', None),
    ('{"a": 1, "a": 2}', None),
    ('{"a":' * 3000 + "1" + "}" * 3000, None),
    ("{" * 5000, None),
    ("no object", None),
    ("", None),
]


@pytest.mark.parametrize(("reply", "value"), JSON_REPLIES)
def test_the_one_json_object_of_a_reply_is_read(reply: str, value: object) -> None:
    read = KINDS["json"].extract(example(), reply)
    assert (None if read is None else json.loads(read)) == value
    assert read is None or read in reply


def test_json_is_compared_by_content_and_its_key_is_json_again() -> None:
    key = KINDS["json"].normalize
    assert KINDS["json"].by_field
    assert not any(kind.by_field for name, kind in KINDS.items() if name != "json")
    same = '{"city": " New  York", "price": 4.0, "tags": ["A"]}', '{"tags":["a"],"price":4,"city":"new york"}'
    assert key(same[0]) == key(same[1])
    assert json.loads(key(same[0])) == {"city": "new york", "price": 4, "tags": ["a"]}
    assert key(key(same[0])) == key(same[0])
    others = [
        '{"a": 1}',
        '{"a": 2}',
        '{"a": "1"}',
        '{"a": true}',
        '{"a": null}',
        '{"b": 1}',
        '{"a": [1]}',
        '{"a": 1.5}',
    ]
    assert len({key(other) for other in others}) == len(others)


def test_free_text_is_the_whole_reply() -> None:
    kind = KINDS["free_text"]
    assert kind.extract(example(), " Dear Jo,\n\n**thanks**. \n") == "Dear Jo,\n\n**thanks**."
    assert kind.extract(example(), " \n ") is None
    assert kind.normalize("Dear Jo,\n\n**thanks**.") == kind.normalize("dear jo thanks")
    assert kind.normalize("👍") != kind.normalize("👎")


CITIES = "A) Paris\nB) Rome\nC) New Rome\nD) 1,200"
CHOICES: list[tuple[str, str | None]] = [
    ("Paris", "A"),
    ("The answer is Rome.", "B"),
    ("New Rome", "C"),
    ("It is **new rome**, of course.", "C"),
    ("1,200", "D"),
    ("B", "B"),
    ("B) Rome", "B"),
    ("(B) rome, since it is old", "B"),
    ("Not Paris but Rome.", "B"),
    ("B because it is old", "B"),
    ("A) is Rome? No. The correct option is B.", "B"),
    ("A) Rome", None),
    ("E", None),
    ("The answer is (F).", None),
    ("Paris or Rome", None),
    ("A) Paris\nB) Rome\nC) New Rome", None),
    ("It is not Paris.", None),
    ("A city in Spain", None),
    ("Parisian", None),
]


@pytest.mark.parametrize(("reply", "letter"), CHOICES)
def test_an_option_is_read_by_its_letter_or_its_text(reply: str, letter: str | None) -> None:
    assert KINDS["choice"].extract(example(choices=CITIES), reply) == letter


def test_options_are_listed_in_many_ways_and_two_equal_ones_are_told_by_the_letter_alone() -> None:
    for listed in ("(A) Paris\n(B) Rome", "A. Paris\nB. Rome", "A: Paris\nB: Rome", "a) Paris\n b) Rome"):
        assert KINDS["choice"].extract(example(choices=listed), "It is Rome") == "B", listed
    assert KINDS["choice"].extract(example(choices="A) Rome\nB) Rome"), "Rome") is None
    assert KINDS["choice"].extract(example(choices="A) Rome\nB) Rome"), "B") == "B"


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ("The review is good, with no bad or mixed words.", "good"),
        ("Good. Nothing bad in it.", "good"),
        ("It is not good.", None),
        ("It is neither good nor bad.", None),
        ("It isn't good, it's bad.", "bad"),
        ("Label: mixed (some good, some bad)", "mixed"),
        ("I can say good, bad or mixed.", None),
        ("It is not relevant.", "not relevant"),
    ],
)
def test_a_label_that_is_denied_is_not_the_answer(reply: str, name: str | None) -> None:
    assert label(["good", "bad", "mixed", "not relevant"]).extract(example(), reply) == name


@pytest.mark.parametrize(
    ("prompt", "reply", "answer"),
    [
        ("What is the capital of Peru?", "The capital of Peru is Lima.", "Lima"),
        ("Who painted it?", "It was painted by Leonardo da Vinci. He was a painter.", "Leonardo da Vinci"),
        ("What is the capital of Peru?", "The largest city is Lima", "The largest city is Lima"),
        ("Eva was ill. Who slept?", "Eva was ill.", None),
        ("Who?", "I'm sorry, I do not know that.", None),
        ("Who?", "There once was a man who knew a lot about all kinds of things", None),
        ("Who? End with: The answer is: <answer>", "The answer is: <answer>", None),
        ("Who? End with: The answer is: <answer>", "The answer is: <answer>Jo</answer>", "Jo"),
    ],
)
def test_a_short_text_is_what_a_sentence_says_of_the_question(prompt: str, reply: str, answer: str | None) -> None:
    assert KINDS["short_text"].extract(example(prompt), reply) == answer


LAKE = "Which lake, known for its seals, is the deepest one?"
OPINION = 'In which year was the mill, which is now a museum, built? It has to be "1702", hasn\'t it?'


@pytest.mark.parametrize(
    ("prompt", "reply", "answer"),
    [
        # An opinion after the question, as a question or not.
        (OPINION, "The mill was built in 1702.", "1702"),
        (OPINION, "The mill, which is now a museum, was built in 1698.", "1698"),
        ('What is the capital of Chad? Perhaps "Abeche"?', "The capital of Chad is N'Djamena.", "N'Djamena"),
        ('What lies at 12.5 degrees east? Perhaps "Rome"?', "What lies at 12.5 degrees east is Rome.", "Rome"),
        ('The largest of the moons is? Perhaps "Io"?', "The largest of the moons is Titan.", "Titan"),
        # A question that is restated with verbs of its own.
        (
            "Which towns are on the river?",
            "The towns that are on the river are Ulm, Linz and Vienna.",
            "Ulm, Linz and Vienna",
        ),
        ("Which towns are on it?", "The towns on it are Ulm, Linz, and Vienna.", "Ulm, Linz, and Vienna"),
        (LAKE, "The lake that is known for its seals, and is the deepest one, is Baikal.", "Baikal"),
        (LAKE, "The deepest lake is actually called Baikal.", "Baikal"),
        # What explains the answer is not part of it.
        (LAKE, "The deepest lake is Baikal, located far in the east.", "Baikal"),
        (LAKE, "The deepest lake is Baikal, and it is known for its seals.", "Baikal"),
        (LAKE, "The deepest lake is Baikal, not Ladoga.", "Baikal"),
        # The answer first.
        (LAKE, "Baikal is the deepest lake.", "Baikal"),
        (LAKE, "Lake Baikal is indeed the deepest lake, which is known to all.", "Lake Baikal"),
        (LAKE, "Baikal is a lake in Siberia.", "Baikal is a lake in Siberia"),
        # What is denied, asked or refused answers nothing.
        (LAKE, "The deepest lake is not Ladoga.", None),
        (LAKE, "Which lake is the deepest one?", None),
        (LAKE, "In which country is that?", None),
        ("Say, Baikal or Ladoga, which?", "Baikal or Ladoga, which?", None),
        ("Which film is it?", "Who Framed Roger Rabbit?", "Who Framed Roger Rabbit?"),
        (LAKE, "I apologize, but I cannot help with that.", None),
        # A line that only announces the answer.
        (LAKE, "The deepest lake is:\nBaikal", "Baikal"),
        (LAKE, "Deep lakes are:\n\n1. Baikal\n2. Ladoga", None),
    ],
)
def test_a_short_text_is_read_past_the_words_of_the_question(prompt: str, reply: str, answer: str | None) -> None:
    assert KINDS["short_text"].extract(example(prompt), reply) == answer


def test_a_leading_article_tells_no_short_texts_apart() -> None:
    key = KINDS["short_text"].normalize
    assert key("the Nile") == key("Nile")
    assert key("The") != key("A")


@pytest.mark.parametrize(
    ("reply", "answer"), [("No dates are given.", None), ("There is no proof.", None), ("no, it is not", "no")]
)
def test_the_no_before_a_noun_is_no_answer(reply: str, answer: str | None) -> None:
    assert KINDS["yes_no"].extract(example(), reply) == answer


HOSTILE = ["(1+" * 5000, "The answer is " * 2000, "\\boxed{" * 3000, '{"a":' * 4000, "1," * 9000, "1 " * 9000]


@pytest.mark.parametrize("name", [*KINDS, "label"])
def test_no_reader_hangs_on_a_reply_that_has_lost_the_thread(name: str) -> None:
    kind = answer_kind(name, ["good", "bad"] if name == "label" else [])
    for reply in [*HOSTILE, "A) " * 6000, "[[A " * 4000, "not good or bad " * 1000, "no " * 6000, "\n" * 9000]:
        kind.extract(example(), reply)  # a reader that is quadratic takes minutes
