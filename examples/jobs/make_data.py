"""Makes the prompts of the three jobs, with labels: python make_data.py [FOLDER]. The texts and their labels are generated.

classifier  does an order in prose go out by post or by van, by a rule about how many pieces it is
judge       which of two answers to the question how many pieces an order is
extractor   who orders how many pieces in all, in an order in prose with two names in it
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIZES = {"train": 200, "dev": 60, "test": 200}
# The parts share no name and no goods, so that nothing is learnt by heart.
PEOPLE = {
    "train": "Amara Boyd|Tomas Reyes|Ingrid Falk|Devi Nair|Owen Pratt|Sana Malik|Luca Ferri|Nora Quinn|Hugo Blanc|Mei Tan|Kofi Mensah|Vera Novak",
    "dev": "Yara Haddad|Ben Osei|Clara Weiss|Ivan Petrov",
    "test": "Lena Brandt|Omar Said|Priya Rao|Jonas Berg|Rosa Lima|Ken Mori|Ada Cole|Pavel Dvorak|Nina Costa|Sam Okoye",
}
GOODS = {
    "train": "lamp|chair|stool|desk|shelf|mirror|rug|vase|clock|basket|curtain|cushion",
    "dev": "bucket|broom|ladder|hammer|drill|paintbrush|bench|hook",
    "test": "plate|bowl|mug|pan|kettle|tray|jug|spoon|fork|ladle|teapot|grater",
}
NUMBERS = ["no", "a", "two", "three", "four", "five"]
BY_POST = 12  # pieces at most


def named(count: int, thing: str) -> str:
    plural = "shelves" if thing == "shelf" else f"{thing}es" if thing.endswith(("sh", "ch")) else f"{thing}s"
    return f"a {thing}" if count == 1 else f"{NUMBERS[count]} {plural}"


def listed(part: str, draw: random.Random, least: int) -> tuple[str, list[int]]:
    """From `least` to seven kinds of goods in words, and how many there are of each."""
    goods = draw.sample(GOODS[part].split("|"), draw.randint(least, 7))
    counts = [draw.randint(1, 5) for _ in goods]
    parts = [named(*pair) for pair in zip(counts, goods, strict=True)]
    return f"{', '.join(parts[:-1])} and {parts[-1]}", counts


def wished(text: str, draw: random.Random) -> str:
    return draw.choice([f"Please send me {text}.", f"I would like to order {text}.", f"We need {text}."])


def signed(customer: str, draw: random.Random) -> str:
    return draw.choice([f"Regards, {customer}", f"Yours, {customer}", f"Thank you, {customer}"])


def classified(part: str, draw: random.Random) -> dict[str, Any]:
    """An order near the limit, and whether it goes by post or by van."""
    text, counts = listed(part, draw, 3)
    while not 0 < abs(sum(counts) - BY_POST) <= 6:
        text, counts = listed(part, draw, 3)
    customer = draw.choice(PEOPLE[part].split("|"))
    prompt = (
        f"How does this order go out? Orders of up to {BY_POST} pieces in all go by post, larger ones by van.\n\n"
        f"Hello, {wished(text, draw)} {signed(customer, draw)}"
    )
    answer = "post" if sum(counts) <= BY_POST else "van"
    return {"prompt": prompt, "answer": answer, "kind": f"{len(counts)} kinds of goods"}


def judged(part: str, draw: random.Random) -> dict[str, Any]:
    """A question that takes adding up, and two answers; one is wrong by a few."""
    text, counts = listed(part, draw, 4)
    right = sum(counts)
    wrong = right + draw.choice([-4, -3, -2, -1, 1, 2, 3, 4])
    right_first = draw.random() < 0.5

    def said(number: int) -> str:
        return draw.choice([f"{number} pieces.", f"It is {number} pieces in all.", f"In all, {number}."])

    return {
        "question": f"How many pieces is this order in all? {wished(text, draw)}",
        "answer_a": said(right if right_first else wrong),
        "answer_b": said(wrong if right_first else right),
        "answer": "A" if right_first else "B",
        "kind": f"{len(counts)} kinds of goods",
    }


def extracted(part: str, draw: random.Random) -> dict[str, Any]:
    """An order with two names in it, and who orders how many pieces in all."""
    customer, other = draw.sample(PEOPLE[part].split("|"), 2)
    text, counts = listed(part, draw, 4)
    begin = draw.choice(
        [
            f"Hello, {other} gave me your address.",
            f"Good morning, {other} says that you deliver fast.",
            f"Dear team of {other},",
        ]
    )
    order = f"{begin} {wished(text, draw)} {signed(customer, draw)}"
    return {
        "prompt": f"Read this order: who orders, and how many pieces is it in all?\n\n{order}",
        "answer": {"customer": customer, "pieces": sum(counts)},
        "kind": f"{len(counts)} kinds of goods",
    }


JOBS: dict[str, Callable[[str, random.Random], dict[str, Any]]] = {
    "classifier": classified,
    "judge": judged,
    "extractor": extracted,
}


def rows(job: str, part: str, number: int) -> Iterator[dict[str, Any]]:
    """`number` different rows, each a group of its own."""
    draw, seen = random.Random(f"{job} {part}"), set[str]()
    while len(seen) < number:
        row = JOBS[job](part, draw)
        key = json.dumps(row, sort_keys=True)
        if key not in seen:
            seen.add(key)
            yield {"id": f"{part}-{len(seen)}", **row}


def main(folder: Path) -> None:
    for job in JOBS:
        for part, number in SIZES.items():
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows(job, part, number))
            path = folder / f"{job}_{part}.jsonl"
            path.write_text("".join(lines), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
