"""Makes the prompts of the three jobs, with labels: python make_data.py [FOLDER]. The texts and their labels are generated.

classifier  which way a return is handled, by the shop's rules
judge       which of two summaries of a notice has all its facts right
extractor   the booking that a guest's message ends up asking for
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
NEVER = {
    "train": "a gift card|a box of chocolates|a bottle of olive oil",
    "dev": "a bag of coffee beans",
    "test": "a phone voucher|a jar of honey",
}
TOWNS = {
    "train": "Lyon|Graz|Porto|Bergen|Ghent|Turin|Malmo|Leeds|Cork|Bilbao",
    "dev": "Basel|Nantes|Aarhus",
    "test": "Seville|Utrecht|Gdansk|Bristol|Trieste|Tampere",
}

RULES = (
    "Our rules for returns:\n"
    "- Food and anything that works like money is never taken back: reject.\n"
    "- A product that is faulty: refund up to 60 days after delivery, repair from day 61 to day 365, reject after that.\n"
    "- A product that works, returned within 14 days: refund if it is unopened, exchange if it was opened.\n"
    "- A product that works, returned later than that: reject."
)


def returns(part: str, draw: random.Random) -> dict[str, Any]:
    """A customer's message and how the rules say it is handled."""
    never = draw.random() < 0.15
    item = draw.choice((NEVER if never else PRODUCTS)[part].split("|"))
    faulty, opened = draw.random() < 0.5, draw.random() < 0.5
    days = draw.choice([2, 3, 5, 6, 9, 10, 12, 20, 25, 33, 40, 52, 58, 70, 85, 120, 200, 300, 400, 500])
    when = draw.choice([f"{days} days ago", f"{days} days back"])
    if days % 10 == 0 and days <= 60 and draw.random() < 0.5:
        when = {20: "just under three weeks ago", 40: "almost six weeks ago"}.get(days, when)
    trouble = draw.choice(
        ["It does not work any more", "It came broken", "It stopped working on its own", "It has a defect"]
    )
    mind = draw.choice(
        [
            "I simply changed my mind",
            "I found that I do not need it",
            "It is not what I pictured",
            "I bought two by mistake",
        ]
    )
    state = (
        draw.choice(["I have used it a few times", "I took it out of the box and tried it"])
        if opened
        else draw.choice(["It is still sealed", "I never opened the package"])
    )
    told = [f"You delivered {item} to me {when}.", f"{trouble if faulty else mind}."]
    if not faulty:
        told.append(f"{state}.")
    chatter = draw.choice(
        [
            "I have been a customer for years.",
            "The courier was very kind, by the way.",
            "My sister ordered the same one.",
            "",
        ]
    )
    told.insert(draw.randrange(len(told) + 1), chatter)
    ask = draw.choice(["What can you do for me?", "Please tell me what happens now.", "How do we settle this?"])
    text = " ".join(filter(None, [*told, ask]))
    if never:
        answer = "reject"
    elif faulty:
        answer = "refund" if days <= 60 else "repair" if days <= 365 else "reject"
    else:
        answer = "reject" if days > 14 else "exchange" if opened else "refund"
    prompt = f"{RULES}\n\nA customer writes: {text}\n\nHow is this handled: refund, exchange, repair or reject?"
    return {"prompt": prompt, "answer": answer, "kind": "faulty" if faulty else "works"}


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


def bookings(part: str, draw: random.Random) -> dict[str, Any]:
    """A guest's message, in which something is taken back or has to be worked out, and the booking."""
    guest, friend = draw.sample(PEOPLE[part].split("|"), 2)
    town, other = draw.sample(TOWNS[part].split("|"), 2)
    month = draw.choice(["May", "June", "July", "August"])
    start, nights = draw.randint(2, 20), draw.randint(2, 7)
    people = draw.randint(1, 4)
    said = (
        f"from {start} to {start + nights} {month}"
        if draw.random() < 0.5
        else f"from {start} {month} for {nights} nights"
    )
    party = {
        1: "I travel alone",
        2: "My partner comes along",
        3: "My wife and our son come along",
        4: "I bring my two daughters and my mother",
    }[people]
    turn = draw.randrange(3)
    lines = [
        f"Hello, {friend} gave me your address.",
        f"I would like a room in your {town if turn else other} house, {said}.",
        f"{party}.",
    ]
    if turn == 0:
        lines.append(f"Oh, I see that you have a house in {town}: please book that one instead of {other}.")
    elif turn == 1:
        lines.append(f"{friend} stayed at your house in {other} in {month} and liked it.")
    else:
        start += 1
        lines.append(f"On second thoughts I arrive a day later, on {start} {month}, and stay as long as planned.")
    text = " ".join([*lines, f"Regards, {guest}"])
    prompt = f"Which booking does this guest want in the end?\n\n{text}"
    answer = {"guest": guest, "town": town, "arrival": f"{start} {month}", "nights": nights, "people": people}
    return {"prompt": prompt, "answer": answer, "kind": ["other town", "plain", "a day later"][turn]}


JOBS: dict[str, Callable[[str, random.Random], dict[str, Any]]] = {
    "classifier": returns,
    "judge": judged,
    "extractor": bookings,
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
