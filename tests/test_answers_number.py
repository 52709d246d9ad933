"""Numbers as models write them: fractions, LaTeX, units, expressions; ranges, times and dates are none."""

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from secondnature.answers import KINDS
from secondnature.types import Example, Message, UserError

NUMBER = KINDS["number"]


def read(reply: str, prompt: str = "?") -> str | None:
    return NUMBER.extract(Example("e", (Message("user", prompt),)), reply)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("18 dollars", "18"),
        ("$18.00", "18"),
        ("18%", "18"),
        ("\\boxed{18\\%}", "18"),
        ("1,234 km", "1234"),
        ("1\\,234", "1234"),
        ("12 apples left", "12"),
        ("5.4 million people", "5400000"),
        ("1/2", "0.5"),
        ("\\frac{1}{2}", "0.5"),
        ("\\boxed{\\dfrac12}", "0.5"),
        ("2 1/2 cups", "2.5"),
        ("-\\frac{3}{4}", "-0.75"),
        ("1/3", "1/3"),
        ("2/6", "1/3"),
        ("3 × 10^8 m/s", "300000000"),
        ("$3 \\times 10^{-2}$", "0.03"),
        ("3·10⁸", "300000000"),
        ("2^{10}", "1024"),
        ("2**10", "1024"),
        ("sqrt(16)", "4"),
        ("\\boxed{3\\sqrt{2}}", "4.24264068712"),
        ("\\boxed{\\sqrt{18}}", "4.24264068712"),
        ("\\boxed{\\frac{\\sqrt{2}}{2}}", "0.707106781187"),
        ("6π", "18.8495559215"),
        ("\\boxed{10 \\text{ m}^2}", "10"),
        ("The answer is 12 + 12 = 24.", "24"),
        ("The answer is: about $5", "5"),
        ("The answer is that 3 pens cost $6.", "6"),
        ("The answer is 100!", "100"),
    ],
)
def test_a_number_is_read_by_its_value(reply: str, value: str) -> None:
    answer = read(reply, prompt="What do 3 pens cost?")
    assert answer is not None
    assert NUMBER.normalize(answer) == NUMBER.normalize(value) == value


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is 5-10 minutes",
        "The answer is 5 to 10",
        "The answer is between 3 and 4",
        "The answer is 9:40",
        "The answer is 2021-05-12",
        "The answer is 12/05/2021",
        "The answer is half of 12",
        "The answer is half of 1/2",
        "The answer is 3,5",
        "1 234 567",
        "version 3.11.2",
        "H2O",
        "1/0",
        "\\frac{1}{0}",
        "\\boxed{\\sqrt{-1}}",
        "\\boxed{}",
        "1. First\n2. Second",
        "m^2",
        "1e999999999999999999999",
    ],
)
def test_what_has_no_one_value_is_no_number(reply: str) -> None:
    assert read(reply) is None


def test_huge_numbers_keep_their_digits() -> None:
    assert NUMBER.normalize("1e70") == NUMBER.normalize("1" + "0" * 70)
    assert NUMBER.normalize("1" * 70) != NUMBER.normalize("1" * 69 + "2")
    assert NUMBER.normalize("1e-70") != "0"


@pytest.mark.parametrize(
    "expression",
    [
        "9^9^9^9",
        "(9^999)^999",
        "99999999999999999999^999",
        "(" * 30 + "2^2" + ")" * 30,
        "(\\sqrt{2}+1)^{999}",
        "2^2" * 99,
    ],
)
def test_an_expression_made_to_hang_is_left_alone(expression: str) -> None:
    start = time.process_time()
    assert read(f"\\boxed{{{expression}}}") is None
    assert time.process_time() - start < 5


def test_expressions_are_read_in_threads_and_beside_a_running_loop() -> None:
    replies = [f"\\boxed{{{n}\\sqrt{{4}}}}" for n in range(2, 12)]
    values = [str(2 * n) for n in range(2, 12)]
    with ThreadPoolExecutor(4) as pool:
        assert [NUMBER.normalize(answer or "") for answer in pool.map(read, replies)] == values

    async def inside() -> str | None:
        return read("\\boxed{13\\sqrt{4}}")

    assert NUMBER.normalize(asyncio.run(inside()) or "") == "26"


def test_without_math_verify_an_expression_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    assert read("\\boxed{\\frac{1}{2}}") is not None
    with pytest.raises(UserError, match=r"secondnature\[math\]") as raised:
        read("\\boxed{17\\sqrt{5}}")
    assert "\n" not in str(raised.value)


def test_sympy_is_loaded_only_for_an_expression_and_nothing_is_written_to_the_screen() -> None:
    script = (
        "import sys\nfrom secondnature.answers import KINDS\nfrom secondnature.types import Example, Message\n"
        "read, example = KINDS['number'].extract, Example('e', (Message('user', '?'),))\n"
        "assert read(example, '1/2') and 'sympy' not in sys.modules\n"
        "assert read(example, '2^5') and 'sympy' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
