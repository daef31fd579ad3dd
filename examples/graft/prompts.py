"""Prompts for the chats that a donor answers in `smollm2.toml`: forms of questions about many subjects.

python examples/graft/prompts.py > prompts.txt
"""

import random

SUBJECTS = """
rain, rivers, mountains, volcanoes, glaciers, deserts, forests, tides, earthquakes, clouds, lightning, snow, soil,
caves, bees, ants, whales, wolves, owls, horses, cats, dogs, spiders, frogs, sharks, penguins, bats, salmon,
mushrooms, roses, oak trees, wheat, rice, coffee, tea, chocolate, cheese, bread, olive oil, salt, sugar, honey,
apples, potatoes, soup, bicycles, trains, ships, aeroplanes, bridges, tunnels, lighthouses, windmills, clocks,
compasses, mirrors, lenses, magnets, batteries, engines, telescopes, radios, telephones, computers, keyboards,
programs, databases, networks, encryption, gravity, light, sound, heat, electricity, atoms, cells, blood, the heart,
the lungs, sleep, memory, dreams, vaccines, the Moon, the Sun, Mars, comets, galaxies, ancient Egypt, ancient Rome,
the Vikings, the Silk Road, printing, paper, maps, democracy, money, taxes, trade, insurance, chess, football,
swimming, running, dancing, painting, poetry, novels, theatre, pianos, violins, drums, songs, photography, films,
architecture, gardens, furniture, pottery, glass, iron, gold, silk, wool, fractions, prime numbers, triangles,
averages, probability, graphs, logic, languages, alphabets, spelling, punctuation
"""
FORMS = (
    "What is interesting about {}?",
    "Explain {} to a child.",
    "Write a short paragraph about {}.",
    "Give me five facts about {}.",
    "Write a short story in which {} matter.",
    "How would you begin a talk about {}?",
    "What do people often get wrong about {}?",
    "Write a poem of eight lines about {}.",
    "Why did people begin to care about {}?",
    "Make a list of questions that a pupil could ask about {}.",
    "Compare {} with something else that is similar.",
    "Write a letter to a friend about {}.",
)


def prompts() -> list[str]:
    """Every form with every subject, in an order that is the same each time."""
    subjects = [subject.strip() for subject in SUBJECTS.replace("\n", " ").split(",")]
    made = [form.format(subject) for form in FORMS for subject in subjects]
    random.Random(0).shuffle(made)
    return made


if __name__ == "__main__":
    print("\n".join(prompts()))
