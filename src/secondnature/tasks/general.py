"""General prompts, none of them of a built-in task: what an adapter does to their answers is what it did to the rest."""

from pathlib import Path

from secondnature.answers import KINDS
from secondnature.tasks.columns import Columns
from secondnature.tasks.data import read_lines
from secondnature.tasks.sources import as_lines
from secondnature.types import Example, Message

GENERAL = (
    # writing
    "Write two sentences about rain on a tin roof.",
    "Begin a story about a lighthouse keeper who is afraid of the dark.",
    "Write a short poem about a bicycle.",
    "Describe a busy kitchen without using the word 'food'.",
    "Write a birthday message for a colleague I hardly know.",
    "Give me a title for a film about two rival bakers.",
    "Rewrite this more politely: Send me the file now.",
    "Make this shorter: The meeting that we had planned for Monday has been moved to a later day in the week.",
    # facts and explanations
    "Why is the sky blue?",
    "How does a refrigerator keep things cold?",
    "What is the difference between weather and climate?",
    "Explain what a black hole is to a ten-year-old.",
    "What does a heart valve do?",
    "Why do leaves change colour in autumn?",
    "How long does light from the Sun take to reach us?",
    "What was the Industrial Revolution?",
    "What is inflation?",
    "How are volcanoes formed?",
    # code
    "Write a Python function that reverses a list.",
    "What does this do? for i in range(3): print(i * i)",
    "Write an SQL query that counts the rows of a table called orders.",
    "How do I undo my last commit in git?",
    "What is the difference between a stack and a queue?",
    "Write a regular expression that matches a four-digit year.",
    # translation and language
    "Translate into French: Good morning, how are you?",
    "Translate into Spanish: The train leaves at nine.",
    "How do you say 'thank you' in German?",
    "Correct the grammar: She don't likes apples.",
    "Give three synonyms for 'happy'.",
    "Use the word 'although' in a sentence.",
    "What is the past tense of 'swim'?",
    # mathematics and reasoning
    "What is 17 + 25?",
    "What is 9 times 8?",
    "A shirt costs 40 pounds and is reduced by a quarter. What does it cost now?",
    "What is the area of a rectangle that is 6 cm long and 3 cm wide?",
    "Is 51 a prime number?",
    "Tom is older than Ann, and Ann is older than Joe. Who is the youngest?",
    "What comes next: 2, 4, 8, 16?",
    "Explain what a fraction is.",
    # lists
    "List five kitchen tools.",
    "Name four seasons of the year and one thing to do in each.",
    "List three pros and three cons of working from home.",
    "Give me a packing list for a weekend by the sea.",
    "Name three animals that sleep in winter.",
    "List the steps to plant a tree.",
    # advice
    "How can I fall asleep more easily?",
    "I have a job interview tomorrow. What should I prepare?",
    "My houseplant has yellow leaves. What can I do?",
    "How do I ask my neighbour to turn the music down?",
    "What is a good way to learn the guitar?",
    "How can I spend less money on groceries?",
    # chat
    "Hello! How are you today?",
    "Tell me a joke about computers.",
    "I had a terrible day.",
    "Can you help me choose a name for my cat?",
    "What can you do?",
    # reading and extracting
    "Summarise in one sentence: Bees visit flowers to collect nectar. On the way they carry pollen from one to the next.",
    "Who is late in this note? 'Maria waited an hour for Paul, who had missed his bus.'",
    "Is this review positive or negative? 'The soup was cold and the waiter rude.'",
    "Take the date out of this text: The contract was signed on 3 March 2021 in Leeds.",
)


def general_prompts(file: str | None, cache: Path) -> list[Example]:
    """The built-in prompts, or those of a file with a column `prompt`, as data files are read.

    Raises UserError naming file and row.
    """
    if file is None:
        return [Example(f"general-{i}", (Message("user", text),)) for i, text in enumerate(GENERAL, 1)]
    columns = Columns()
    rows = read_lines(as_lines(Path(file), columns, cache), columns, KINDS["free_text"])
    return [row.example for row in rows]
