"""Replies as models write them, labelled by hand: what is read, and what is no answer. Nothing is read by default."""

import pytest

from secondnature.answers import KINDS, fold, label
from secondnature.tasks import answer_kind
from secondnature.types import Example, Message, UserError

EXAMPLE = Example("e", (Message("user", "?"),))
SENTIMENT = ["positive", "negative", "not applicable", "mixed"]
SUPPORT = ["supported", "not supported", "Zürich"]

REPLIES: dict[str, list[tuple[str, str | None]]] = {
    "yes_no": [
        ("Yes", "yes"),
        ("no.", "no"),
        ("**Yes**, because the dates match.", "yes"),
        ("No, it is not. Yes would be wrong here.", "no"),
        ("The answer is: yes", "yes"),
        ("The answer is **No**.", "no"),
        ("Some say yes, others no.\nFinal answer: no", "no"),
        ("First, no dates are given. Still, yes and no are possible. The answer is yes.", "yes"),
        ("\\boxed{\\text{Yes}}", "yes"),
        ('"Yes"', "yes"),
        ("Answer: YES", "yes"),
        ("I would say yes.", "yes"),
        ("Let me think. It could be yes or no.", None),
        ("I cannot tell from the text.", None),
        ("As an AI, I am not able to answer that.", None),
        ("Nothing is known of it. Yesterday it rained.", None),
        ("The answer is: it depends", None),
        ("", None),
    ],
    "number": [
        ("42", "42"),
        ("The answer is 1,234.50 dollars.", "1234.50"),
        ("3 + 4 = 7, and 7 * 6 = 42", "42"),
        ("The answer is: $18", "18"),
        ("So she pays \\boxed{-3.5} in all, 7 coins.", "-3.5"),
        ("Step 1: 5 apples.\nStep 2: 6 more.\n#### 11", "11"),
        ("**Final answer:** 12 km (not 15 km)", "12"),
        ("It is 25%.", "25"),
        ("6.02e23 molecules", "6.02e23"),
        ("-7", "-7"),
        ("The total is $1,000,000.", "1000000"),
        ("There are 12 eggs.", "12"),
        ("The answer is 3.", "3"),
        ("The temperature fell to \u22125 degrees.", "-5"),
        ("He is born in 1990-1995, so the answer is 5", "5"),
        ("The final answer is \\boxed{2,048}.", "2048"),
        ("It is 5-3 = 2", "2"),
        ("He reigned 1990-1995.", "1995"),
        ("-$5", "-5"),
        ("So it is \\boxed{\\text{7}}.", "7"),
        ("The answer is: 1/2", "1/2"),
        ("The answer is \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("half of it, 3 / 4", "3 / 4"),
        ("The train goes at 60 km/h.", "60"),
        ("The answer is unknown.", None),
        ("I don't know.", None),
        ("Twelve", None),
        ("", None),
    ],
    "choice": [
        ("B", "B"),
        ("(C)", "C"),
        ("b)", "B"),
        ("B. Paris", "B"),
        ("**D**", "D"),
        ("The answer is (A).", "A"),
        ("The correct answer is: C) the liver", "C"),
        ("Option B is right, since it has no side effects.", "B"),
        ("I choose option D.", "D"),
        ("\\boxed{A}", "A"),
        ("(A) is wrong, (B) is wrong.\nAnswer: (C)", "C"),
        ("A: the mitochondrion", "A"),
        ("The answer is B", "B"),
        ("A city in France", None),
        ("I think that it is Paris.", None),
        ("Both (A) and (B) are plausible.", None),
        ("None of them.", None),
        ("I cannot answer this.", None),
        ("", None),
    ],
    "letters": [
        ('The answer is: "léon"', "léon"),
        ("é, n, o", "éno"),
        ("na", "na"),
        ("The answer is: n-a", "na"),
        ("n, a", "na"),
        ("N A", "na"),
        ('The last letters are "n" and "a", together "na".', "na"),
        ("**na**", "na"),
        ("Answer: na.", "na"),
        ("I do not know the words", None),
        ("", None),
    ],
    "short_text": [
        ("Paris", "Paris"),
        ("**Paris.**", "Paris"),
        ("The answer is: São Tomé", "São Tomé"),
        ('"Port-au-Prince"', "Port-au-Prince"),
        ("It lies on the Seine.\nFinal answer: Paris\nI hope this helps!", "Paris"),
        ("Paris\n\nIt is the largest city.", "Paris"),
        ("\\boxed{\\text{Paris}}", "Paris"),
        ("Answer: *Paris*", "Paris"),
        ("St. John's", "St. John's"),
        ("...", None),
        ("", None),
        (" \n ", None),
    ],
    "label": [
        ("positive", "positive"),
        ("**Negative**", "negative"),
        ("The sentiment is mixed.", "mixed"),
        ("It has positive and negative parts. The answer is: Mixed", "mixed"),
        ("Label: Not applicable.", "not applicable"),
        ("POSITIVE!", "positive"),
        ("It is not positive or negative.", None),
        ("positivity abounds", None),
        ("I cannot say.", None),
        ("", None),
    ],
}


@pytest.mark.parametrize(
    ("kind", "reply", "answer"), [(kind, *case) for kind, cases in REPLIES.items() for case in cases]
)
def test_a_reply_is_read_as_a_person_would(kind: str, reply: str, answer: str | None) -> None:
    reader = answer_kind(kind, SENTIMENT if kind == "label" else [])
    assert reader.extract(EXAMPLE, reply) == answer


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("number", "1,000", "1000.0"),
        ("number", "$18", "18"),
        ("number", "+5", "5.00"),
        ("number", "-0", "0"),
        ("number", ".5", "0.50"),
        ("number", "007", "7."),
        ("number", "1e3", "1000"),
        ("short_text", "São  Tomé.", "sao tome"),
        ("short_text", "“Port-au-Prince”", "port au prince"),
        ("choice", "b", "B"),
        ("yes_no", "Yes", "yes"),
        ("letters", "NA", "na"),
    ],
)
def test_the_same_answer_written_otherwise_has_the_same_key(kind: str, first: str, second: str) -> None:
    key = KINDS[kind].normalize
    assert key(first) == key(second)


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("number", "1", "-1"),
        ("number", "1.5", "15"),
        ("number", "100", "10"),
        ("number", "9007199254740993", "9007199254740992"),
        ("short_text", "Rome", "Roma"),
        ("choice", "A", "B"),
    ],
)
def test_other_answers_have_other_keys(kind: str, first: str, second: str) -> None:
    key = KINDS[kind].normalize
    assert key(first) != key(second)


@pytest.mark.parametrize("reply", ["1e999", "The answer is 1e999", "1" * 5000, "-" + "9" * 400 + ".5"])
def test_a_number_out_of_all_bounds_is_no_crash(reply: str) -> None:
    answer = KINDS["number"].extract(EXAMPLE, reply)
    assert answer is None or KINDS["number"].normalize(answer)


def test_every_answer_that_is_read_is_read_again_from_itself() -> None:
    for kind, cases in REPLIES.items():
        reader = answer_kind(kind, SENTIMENT if kind == "label" else [])
        for _, answer in cases:
            if answer is not None:
                again = reader.extract(EXAMPLE, answer)
                assert again is not None, (kind, answer)
                assert reader.normalize(again) == reader.normalize(answer)


def test_of_labels_that_contain_each_other_the_longest_is_read() -> None:
    support = label(SUPPORT)
    assert support.extract(EXAMPLE, "This claim is not supported.") == "not supported"
    assert support.extract(EXAMPLE, "Supported") == "supported"
    assert support.extract(EXAMPLE, "in ZURICH") == "Zürich"


def test_labels_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(UserError, match="repeated"):
        label(["yes", "Yes!"])
    with pytest.raises(UserError, match="empty"):
        label(["yes", "?"])


def test_folding_keeps_what_tells_names_apart() -> None:
    assert fold(" São Tomé. ") == fold("sao tome") == "sao tome"
    assert fold("Port-au-Prince") == "port au prince"
    assert len({fold(name) for name in ("Niger", "Nigeria", "東京", "C3", "")}) == 5
