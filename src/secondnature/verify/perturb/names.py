"""Given names of many languages, by the pronouns that go with them.

None of them is also an English word, a month, a flower or a well-known place: "Will", "May", "Rose" or "Paris" would be renamed
where they are no names, so they stay as they are. Names borne by everyone alike ("Kim", "Sasha") are left out too.
"""

SHE = """
Aaliyah Agnieszka Aisha Alice Alina Amina Amy Ana Anastasia Anita Anna Anne Annika Astrid Ayesha Barbara Beatriz Begoña Betty
Bianca Birgit Brenda Camila Catherine Chiara Chidinma Chloé Clara Claudia Cynthia Daniela Deborah Diana Ebba Ekaterina Elena
Elif Elizabeth Ellen Emily Emma Eva Fatima Fatoumata Frida Gabriela Giulia Greta Gudrun Hanna Hannah Hatice Heidi Helen Helena
Hiroko Ingrid Irina Jane Jelena Jessica Johanna Julia Julie Karin Katarzyna Kate Katerina Keiko Khadija Laila Lakshmi Larissa
Laura Leila Linda Lisa Lucy Magdalena Margaret Maria Marie Marta Mary Meera Megan Meiling Michelle Mia Miriam Monika Nadia
Nancy Naomi Natalia Ngozi Nina Noémie Olga Olivia Patricia Priya Rachel Rania Rebecca Renée Rosa Sandra Sara Sarah Shreya Sigrid
Sofie Solveig Sonia Sophie Stella Susan Svetlana Tamara Tatiana Teresa Tina Ulrike Valentina Valeria Wanjiru Wendy Xiulan Yasmin
Yelena Zahra Zainab Zanele Zeynep Zoë Zofia Zuzana
""".split()

HE = """
Adam Adebayo Ahmed Alejandro Aleksander Alexei Ali Andrei Andrew André Anthony Arjun Arthur Ashok Ben Benjamin Björn Bob Bogdan
Brian Carlo Charlie Chukwuma Dan Daniel Danilo David Dmitri Eduardo Emeka Emmanuel Enrique Eric Erik Ethan Fabio Farid Filip
Fred George Giovanni Goran Greg Gunnar Gustav Hamza Harold Hassan Henrik Henry Hiroshi Hugo Hussein Ibrahim Igor Ivan Jakub
Jamal Javier Jim Jiri Joe Johann John Jorge José Joseph Joshua Jürgen Kamal Karim Keith Kenji Kevin Khalid Kofi Kwame Leo
Leonardo Liam Lorenzo Luca Łukasz Mahmoud Marek Mateo Matteo Mehmet Michael Miguel Mikhail Mustafa Nikolai Noah Olaf Omar Pablo
Paul Pavel Pedro Peter Philip Pierre Piotr Rafael Rajesh Ravi Ricardo Richard Robert Roberto Rohan Ryan Salman Sanjay Sergei
Simon Stefan Stephen Steve Sven Søren Takeshi Tariq Ted Thabo Tim Tom Tomasz Umar Vikram Viktor Vladimir Walter William Yusuf
Zoltan
""".split()
