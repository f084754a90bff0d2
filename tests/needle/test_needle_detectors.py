"""Nobody finds a needle by its smell: detectors with regular expressions and priors, but without understanding.

They are given more than any model is: which functions are the rivals. What is left is chance, 1 / rivals; none may be
more than five points above it. Rungs 0 to 2 and 8 are literal lookups and left out: there a regular expression is all
that it takes.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from needle_recipes import built, recipe

from latbench.needle.dice import Dice
from latbench.needle.trial import Kind, Planted, Trial

LEARNT, HELD_OUT = 200, 300
MARGIN = 0.05

Feature = Callable[[str, "Scene"], float]


class Scene:
    """A trial as a detector sees it: the rivals in the order in which they stand, their texts, and all words."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.target = trial.key.targets[0].name
        self.rivals: list[Planted] = sorted((*trial.key.targets, *trial.key.decoys), key=lambda one: one.depth)
        self.texts = {one.name: text_of(one.name, trial.code) for one in self.rivals}
        self.words = Counter(re.findall(r"\w+", trial.code))
        self.docs = Counter(doc(text) for text in self.texts.values())
        self.bodies = Counter(shape(text) for text in self.texts.values())


def text_of(name: str, code: str) -> str:
    found = re.search(rf"^(?:async )?def {name}\(.*?(?=\n\n\n|\Z)", code, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def doc(text: str) -> str:
    found = re.search(r'"""(.*?)"""', text, re.DOTALL)
    return found[1] if found else ""


def body(text: str) -> str:
    return re.sub(r'""".*?"""', "", text, flags=re.DOTALL)


def shape(text: str) -> str:
    """The body without names: what is left are keywords, numbers and operators."""
    return re.sub(r"(?<!\w)[a-z_]{2,}(?!\w)(?<!return)(?<!while)(?<!range)", "n", body(text))


def counts(pattern: str, part: Callable[[str], str] = body) -> Feature:
    return lambda name, scene: len(re.findall(pattern, part(scene.texts[name])))


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"-?\d+", text)] or [0]


def at_boundary(name: str, scene: Scene) -> float:
    """A value of an example that is its own limit: off by one might show there."""
    text = doc(scene.texts[name])
    return sum(len(found) - len(set(found)) for found in map(numbers, re.findall(r">>> (.*)", text)))


def words_of_name(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+", name)]


FEATURES: dict[str, Feature] = {
    "length": lambda name, scene: len(scene.texts[name]),
    "length of the body": lambda name, scene: len(body(scene.texts[name])),
    "lines": lambda name, scene: scene.texts[name].count("\n"),
    "longest line": lambda name, scene: max(map(len, scene.texts[name].split("\n"))),
    "shortest line": lambda name, scene: min(map(len, filter(None, scene.texts[name].split("\n")))),
    "position": lambda name, scene: next(at for at, one in enumerate(scene.rivals) if one.name == name),
    "distance from the middle": lambda name, scene: abs(
        next(one.depth for one in scene.rivals if one.name == name) - 0.5
    ),
    "line number, odd or even": lambda name, scene: (
        next(one.line_number for one in scene.rivals if one.name == name) % 2
    ),
    "rarest word": lambda name, scene: min(scene.words[word] for word in re.findall(r"\w+", scene.texts[name])),
    "rarest word of the name": lambda name, scene: min(scene.trial.code.lower().count(w) for w in words_of_name(name)),
    "uses of the name": lambda name, scene: scene.words[name],
    "length of the name": lambda name, scene: len(name),
    "alphabet": lambda name, scene: sorted(scene.texts).index(name),
    "comments": counts("#"),
    "docstring": lambda name, scene: len(doc(scene.texts[name])),
    "docstring seen before": lambda name, scene: scene.docs[doc(scene.texts[name])],
    "body seen before": lambda name, scene: scene.bodies[shape(scene.texts[name])],
    "annotations": counts(r": (?:int|str|list)|->"),
    "default values": counts(r"= ?None|=\[\]|= \[\]"),
    "biggest number": lambda name, scene: max(numbers(scene.texts[name])),
    "biggest number of the examples": lambda name, scene: max(numbers(doc(scene.texts[name]))),
    "smallest number of the examples": lambda name, scene: min(numbers(doc(scene.texts[name]))),
    "numbers": counts(r"\d+"),
    "zeros and ones": counts(r"\b[01]\b"),
    "numbers of the examples": counts(r"\d+", doc),
    "limits in examples": at_boundary,
    "negatives in examples": counts(r"-\d", doc),
    "empty results": counts(r"\[\]|''|\n\s*0\n", doc),
    "less or more": counts(r"[<>](?!=)"),
    "with equality": counts(r"[<>]="),
    "plus": counts(r"\+"),
    "minus": counts(r"-(?!>)"),
    "stars": counts(r"\*"),
    "slices": counts(r"\[[^\]]*:[^\]]*\]"),
    "not": counts(r"\bnot\b"),
    "and": counts(r"\band\b"),
    "await": counts(r"\bawait\b"),
    "async": counts(r"\basync\b"),
    "closing": counts(r"\bclosing\b"),
    "None": counts(r"\bNone\b"),
    "returns": counts(r"\breturn\b"),
    "deepest indentation": lambda name, scene: max(
        len(found) for found in re.findall(r"^[ \t]*", scene.texts[name], re.MULTILINE)
    ),
    "a parameter unused": lambda name, scene: sum(
        len(re.findall(rf"\b{word}\b", scene.texts[name])) < 2
        for word in re.findall(r"(\w+)(?=[:,)=])", scene.texts[name].split("\n")[0])
    ),
    "seconds": counts("seconds"),
    "thousands": counts("1000"),
    "a tie for what stands before": lambda name, scene: len(
        scene.trial.code[: scene.trial.code.index(scene.texts[name])].rsplit("\n\n\n", 2)[-2]
    ),
}


def guesses(scene: Scene, dice: Dice) -> Iterator[tuple[str, str]]:
    """What each detector names: for every feature the one with most, with least, the odd one and the usual one."""
    every = [one.name for one in scene.rivals]
    for label, feature in FEATURES.items():
        every = dice.shuffled(every)  # ties are broken by lot, a lot for each
        values = {name: feature(name, scene) for name in every}
        seen = Counter(values.values())
        yield f"most {label}", max(every, key=values.__getitem__)
        yield f"least {label}", min(every, key=values.__getitem__)
        yield f"odd {label}", min(every, key=lambda name: seen[values[name]])
        yield f"usual {label}", max(every, key=lambda name: seen[values[name]])
    table = np.array([[feature(name, scene) for feature in FEATURES.values()] for name in every], dtype=float)
    spread = np.where(table.std(axis=0) > 0, table.std(axis=0), 1)
    distance = (((table - table.mean(axis=0)) / spread) ** 2).sum(axis=1)
    yield "outlier", every[int(distance.argmax())]
    yield "centre", every[int(distance.argmin())]
    gaps = [two.depth - one.depth for one, two in pairwise(scene.rivals)]
    yield "after the widest gap", scene.rivals[int(np.argmax(gaps)) + 1].name
    yield "after the narrowest gap", scene.rivals[int(np.argmin(gaps)) + 1].name


def shares(kind: Kind, trials: range) -> tuple[dict[str, float], float]:
    """How often each detector is right, and chance."""
    right: Counter[str] = Counter()
    chance = 0.0
    for number in trials:
        dice = Dice("detectors", kind, number)
        trial = built(recipe(kind, 2_600, 0.08 + 0.84 * dice.random(), seed=number))
        scene, chance = Scene(trial), trial.key.chance
        assert chance == pytest.approx(1 / len(scene.rivals))
        for detector, guess in guesses(scene, dice):
            right[detector] += guess == scene.target
    return {detector: count / len(trials) for detector, count in right.items()}, chance


@pytest.mark.long
@pytest.mark.parametrize("kind", [Kind.DESCRIPTION, Kind.BUG, Kind.CONTRACT])
def test_dumb_detectors_stay_at_chance(kind: Kind) -> None:
    """The best of them is chosen on some trials and held to others: the luckiest of 180 is not the best."""
    learnt, chance = shares(kind, range(LEARNT))
    assert len(learnt) > 150
    assert sorted(learnt.values())[len(learnt) // 2] == pytest.approx(chance, abs=0.02)
    best = max(learnt, key=learnt.__getitem__)
    found, _ = shares(kind, range(LEARNT, LEARNT + HELD_OUT))
    assert found[best] <= chance + MARGIN, f"{best}: {found[best]:.1%}, chance is {chance:.1%}"


@pytest.mark.long
@pytest.mark.parametrize("kind", [Kind.EXECUTION, Kind.CHAIN])
def test_no_number_of_the_prompt_is_the_answer(kind: Kind) -> None:
    """Whatever a detector picks from the prompt is wrong: the answer is not there to be picked."""
    for number in range(200):
        trial = built(recipe(kind, 2_600, 0.1 + 0.8 * Dice(number).random(), seed=number))
        said = {int(found) for message in trial.messages for found in re.findall(r"\d+", message.content)}
        answer = trial.key.targets[0].value
        assert isinstance(answer, int)
        assert abs(answer) not in said


@pytest.mark.long
def test_row_29_the_first_and_the_last_are_at_chance_in_every_stratum() -> None:
    """Naming the first or the last unit of the code, whatever it is, is right no more often than chance."""
    right = Counter[str]()
    for number in range(200):
        trial = built(recipe(Kind.BUG, 2_600, 0.08 + 0.84 * Dice(number).random(), seed=number))
        heads = re.findall(r"^(?:async )?def (\w+)", trial.code, re.MULTILINE)
        right["first"] += heads[0] == trial.key.targets[0].name
        right["last"] += heads[-1] == trial.key.targets[0].name
    assert max(right.values()) / 200 <= 1 / 12 + MARGIN


def test_a_detector_that_knows_something_is_caught() -> None:
    """The test can fail: one that looks at what it must not know is far above chance."""
    trial = built(recipe(Kind.BUG, 2_600, seed=3))
    scene = Scene(trial)
    marked = trial.key.targets[0].line
    assert [name for name, text in scene.texts.items() if marked in text.split("\n")] == [scene.target]
