"""Makes the prompts of the three jobs, with labels: python make_data.py [FOLDER]. The texts and their labels are generated.

classifier  which team should get a contact form whose topic the customer chose, mostly wrongly
judge       which of two summaries of a notice has all its facts right
extractor   who orders how many pieces in all, in an order in prose
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIZES = {"train": 320, "dev": 60, "test": 200}
# The parts share no name, no product and no town, so that nothing is learnt by heart.
PEOPLE = {
    "train": "Amara Boyd|Tomas Reyes|Ingrid Falk|Devi Nair|Owen Pratt|Sana Malik|Luca Ferri|Nora Quinn|Hugo Blanc|Mei Tan|Kofi Mensah|Vera Novak",
    "dev": "Yara Haddad|Ben Osei|Clara Weiss|Ivan Petrov",
    "test": "Lena Brandt|Omar Said|Priya Rao|Jonas Berg|Rosa Lima|Ken Mori|Ada Cole|Pavel Dvorak|Nina Costa|Sam Okoye",
}
PRODUCTS = {
    "train": "headphones|a desk lamp|a rain jacket|a coffee grinder|a keyboard|running shoes|a backpack|a toaster|a tent|a bike helmet",
    "dev": "a blender|a scarf|a router",
    "test": "a kettle|a camera|hiking boots|a printer|a suitcase|a smart watch|a monitor|a sleeping bag",
}
TOWNS = {
    "train": "Lyon|Graz|Porto|Bergen|Ghent|Turin|Malmo|Leeds|Cork|Bilbao",
    "dev": "Basel|Nantes|Aarhus",
    "test": "Seville|Utrecht|Gdansk|Bristol|Trieste|Tampere",
}

# What the messages are about, by the team that should get them; the parts share none.
PROBLEMS = {
    "train": {
        "billing": "I was charged twice for {item}|the invoice for {item} shows the wrong amount|you took the money for {item} although I paid by voucher|the discount for {item} is missing on the bill|I need a receipt for {item} with my tax number",
        "delivery": "{item} was due on Monday and has not come|the parcel with {item} went to a neighbour who is away|the box with {item} came wet and torn|the tracking page for {item} has not moved for a week|the driver left {item} at the wrong house",
        "technical": "{item} does not switch on|{item} makes a grinding noise and stops|one part of {item} broke off on the first day|the light on {item} blinks red all the time|{item} gets far too hot to touch",
        "account": "I cannot log in to see my order of {item}|the link to set a new password never comes, and I want to order {item}|my old address shows up when I order {item}|I have two profiles, and {item} is in the wrong one|please delete my profile, I only ever bought {item}",
    },
    "dev": {
        "billing": "I see a fee that I do not know beside {item}|my refund for {item} is too small",
        "delivery": "only half of my order came, {item} is missing|{item} was sent to my old town",
        "technical": "{item} lost its colour after one wash|the lid of {item} does not close",
        "account": "my name is spelt wrongly in my profile, as I saw when I bought {item}|the code for signing in never arrives, so I cannot buy {item}",
    },
    "test": {
        "billing": "my card was debited for {item} before I agreed|the price of {item} on my statement is not the one you showed|I got a reminder for {item}, which I paid last month|you have not paid me back for {item} yet|the instalments for {item} are calculated wrongly",
        "delivery": "I waited at home all day for {item} and nobody rang|the courier says that {item} was handed over, but I have nothing|can {item} be brought to my office instead|{item} is stuck at customs|the package with {item} was opened on its way",
        "technical": "{item} will not connect to anything|the seam of {item} came apart after two days|{item} shows an error and then nothing|the zip or button on {item} is jammed|{item} leaks at the bottom",
        "account": "I forgot which e-mail I used to buy {item}|someone else seems to have used my login to look at {item}|I want to change the phone number in my profile before I buy {item}|the page says that my profile is locked, and I need {item}|I never signed up for news about {item}, take me off the list",
    },
}


def forms(part: str, draw: random.Random) -> dict[str, Any]:
    """A contact form whose topic the customer chose, mostly wrongly, and the team that should get it."""
    team = draw.choice(list(PROBLEMS[part]))
    problem = draw.choice(PROBLEMS[part][team].split("|")).format(item=draw.choice(PRODUCTS[part].split("|")))
    topic = team if draw.random() < 0.3 else draw.choice([other for other in PROBLEMS[part] if other != team])
    lines = [
        draw.choice(["Hello,", "Good morning,", "Hi there,", "Dear team,"]),
        f"{problem[0].upper()}{problem[1:]}.",
        draw.choice(
            [
                "I have been a customer for years.",
                "Last time all went well.",
                "I am a bit disappointed.",
                "My sister bought one too.",
            ]
        ),
        draw.choice(["Please help.", "What can you do?", "Please get back to me soon.", "Thank you."]),
    ]
    remark = draw.choice(
        [
            f"Topic chosen by the customer: {topic}",
            f"The customer ticked the box: {topic}",
            f"Note from the customer: I think this is for {topic}.",
        ]
    )
    prompt = (
        "Which team should get this contact form: billing, delivery, technical or account? Go by the message: customers often choose the "
        f"wrong topic.\n\n{remark}\nMessage: {' '.join(lines)}"
    )
    return {"prompt": prompt, "answer": team, "kind": "right topic" if topic == team else "wrong topic"}


EVENTS = "the choir's concert|the book fair|the chess tournament|the repair workshop|the garden market|the night run|the film club"
PLACES = "the town hall|the old mill|the school gym|the harbour shed|the library|the fire station"
REASONS = "a burst pipe|a strike|building works|a storm warning|a clash of dates"


def judged(part: str, draw: random.Random) -> dict[str, Any]:
    """A notice and two summaries; one has a fact wrong."""
    first, second = draw.sample(PEOPLE[part].split("|"), 2)
    town, event = draw.choice(TOWNS[part].split("|")), draw.choice(EVENTS.split("|"))
    old, new = draw.sample(PLACES.split("|"), 2)
    month = draw.choice(["March", "April", "June", "September", "October"])
    before, after = sorted(draw.sample(range(2, 28), 2))
    price, cut = draw.choice([8, 10, 12, 15, 20]), draw.choice([2, 3, 4, 5])
    reason = draw.choice(REASONS.split("|"))
    notice = (
        f"{town}: because of {reason}, {event} moves from {old} to {new}. It was planned for {before} {month} and now takes place on "
        f"{after} {month}. A ticket, so far {price} euros, becomes {cut} euros cheaper. {first}, who sold the tickets until now, is on "
        f"leave; ask {second} instead."
    )
    facts = {"place": new, "day": f"{after} {month}", "price": f"{price - cut} euros", "contact": second}
    wrong = dict(facts)
    slip = draw.choice(list(facts))
    wrong[slip] = {"place": old, "day": f"{before} {month}", "price": f"{price + cut} euros", "contact": first}[slip]

    def summary(of: dict[str, str], style: int) -> str:
        event_of = event[0].upper() + event[1:]
        return (
            f"{event_of} in {town} takes place at {of['place']} on {of['day']}. A ticket costs {of['price']}. Contact: {of['contact']}."
            if style
            else f"For a ticket at {of['price']} ask {of['contact']}. {event_of} in {town} is on {of['day']}, at {of['place']}."
        )

    styles = draw.sample([0, 1], 2)
    right_first = draw.random() < 0.5
    pair = [summary(facts, styles[0]), summary(wrong, styles[1])]
    answer_a, answer_b = pair if right_first else pair[::-1]
    return {
        "question": f"Summarise this notice: {notice}",
        "answer_a": answer_a,
        "answer_b": answer_b,
        "answer": "A" if right_first else "B",
        "slip": slip,
    }


GOODS = {
    "train": "lamp|chair|stool|desk|shelf|mirror|rug|vase|clock|basket|curtain|cushion",
    "dev": "bucket|broom|ladder|hammer|drill|paintbrush|bench|hook",
    "test": "plate|bowl|mug|pan|kettle|tray|jug|spoon|fork|ladle|teapot|grater",
}
NUMBERS = ["no", "a", "two", "three", "four", "five"]


def orders(part: str, draw: random.Random) -> dict[str, Any]:
    """An order in prose, with two names in it, and who orders how many pieces in all."""
    customer, other = draw.sample(PEOPLE[part].split("|"), 2)
    goods = draw.sample(GOODS[part].split("|"), draw.randint(4, 7))
    counts = [draw.randint(1, 5) for _ in goods]

    def named(count: int, thing: str) -> str:
        plural = "shelves" if thing == "shelf" else f"{thing}es" if thing.endswith(("sh", "ch")) else f"{thing}s"
        return f"a {thing}" if count == 1 else f"{NUMBERS[count]} {plural}"

    parts = [named(*pair) for pair in zip(counts, goods, strict=True)]
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}"
    begin = draw.choice(
        [
            f"Hello, {other} gave me your address.",
            f"Good morning, {other} says that you deliver fast.",
            f"Dear team of {other},",
        ]
    )
    ask = draw.choice([f"Please send me {listed}.", f"I would like to order {listed}.", f"We need {listed}."])
    end = draw.choice([f"Regards, {customer}", f"Yours, {customer}", f"Thank you, {customer}"])
    prompt = f"Read this order: who orders, and how many pieces is it in all?\n\n{begin} {ask} {end}"
    return {
        "prompt": prompt,
        "answer": {"customer": customer, "pieces": sum(counts)},
        "kind": f"{len(goods)} kinds of goods",
    }


JOBS: dict[str, Callable[[str, random.Random], dict[str, Any]]] = {
    "classifier": forms,
    "judge": judged,
    "extractor": orders,
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
