"""Common given names, and which of them belong to train, dev and test: no name is in two parts."""

from functools import cache

from secondnature.tasks.draws import draw, shuffled

SHARES = {"test": 0.3, "dev": 0.1}  # the rest is train's

_WRITTEN = """
Aaron Abdul Abigail Adam Adele Adrian Agnes Ahmed Aisha Alan Albert Alejandro Alexander Alfred Ali Alice Alicia Alma Amara
Amelia Amir Amit Amy Ana Anders Andre Andrea Andrew Angela Anil Anita Anna Anthony Anton Arjun Arthur Asha Astrid Audrey Axel
Aylin Barbara Beatrice Ben Benedict Bernard Bianca Bjorn Boris Brandon Brenda Brian Bruno Caleb Camila Carl Carlos Carmen
Caroline Cecilia Cedric Celine Charles Charlotte Chen Chiara Chidi Christina Clara Claude Colin Conrad Cora Craig Cynthia Dalia
Daniel Daphne David Deborah Deepak Denise Derek Diana Diego Dmitri Dolores Dominic Donald Dora Doris Duncan Edgar Edith Eduardo
Edwin Eileen Elena Eli Elias Elif Elizabeth Ella Ellen Elliot Elsa Emeka Emil Emily Emma Enrique Eric Esteban Esther Ethan Eva
Evelyn Fabian Farah Fatima Felix Fernando Fiona Florian Frances Francisco Frank Frederick Gabriel Gareth Gemma George Gerald
Gilbert Gina Gloria Gordon Greta Guido Gustav Hana Hannah Harold Harriet Hassan Heather Hector Heidi Helen Henrik Henry Hilda
Hiroshi Howard Hugo Ian Ibrahim Ida Igor Imani Ines Ingrid Irene Isaac Isabel Ivan Jacob Jakub James Jamila Jan Jane Jasmin
Javier Jerome Jessica Joan Joel Johan John Jonas Jorge Joseph Josephine Joshua Juan Judith Julia Julian Jun Kamal Karen Karim
Karl Katarina Katherine Keiko Kenneth Kenji Kevin Khalid Kofi Kurt Kwame Laila Lars Laura Laurence Leah Leila Lena Leo Leonard
Leticia Lewis Liam Lily Linda Lionel Lisa Liv Lorenzo Louis Lucas Lucy Luis Lydia Magnus Malik Manuel Marco Margaret Maria
Marian Mario Martha Martin Mary Mateo Matilda Matthew Maurice Max Maya Megan Mehmet Mei Mercedes Michael Miguel Milan Mina
Miriam Mohamed Monica Nadia Naomi Natalie Nathan Neil Ngozi Nicholas Nicole Nils Nina Noah Nora Norman Olga Oliver Olivia Omar
Oscar Otto Pablo Patricia Patrick Paul Paula Pavel Pedro Penelope Peter Philip Pierre Priya Quentin Rachel Rafael Rahul Ralph
Ramon Rania Raymond Rebecca Renata Ricardo Richard Rita Robert Rohan Roland Rosa Ruben Rupert Ruth Sabine Salim Samuel Sandra
Sanjay Sarah Sebastian Sergei Silvia Simon Sofia Soren Stefan Stella Stephen Susan Sven Sylvia Tamara Tanya Tariq Teresa
Theodore Thomas Tobias Tomas Ursula Valentina Vera Veronica Victor Vincent Vivian Vladimir Walter Wanda Wendy Wesley William
Xavier Yasmin Yolanda Yuki Yusuf Zainab Zara Zoe
"""
NAMES = _WRITTEN.split()


@cache
def names_of(part: str) -> tuple[str, ...]:
    """The names of train, dev or test."""
    names = shuffled(NAMES, "names")
    test = round(SHARES["test"] * len(names))
    dev = test + round(SHARES["dev"] * len(names))
    return tuple({"test": names[:test], "dev": names[test:dev], "train": names[dev:]}[part])


def some_names(part: str, number: int, *key: str) -> list[str]:
    """So many different names of a part, in a drawn order."""
    left = list(names_of(part))
    return [left.pop(draw(len(left), *key, f"name {n}")) for n in range(number)]
