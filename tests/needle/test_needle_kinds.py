"""Every answer is right, the only one, and found by no shortcut: checked by running whole prompts of our own code."""

import asyncio
import doctest
import io
import re
import types
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needle_recipes import built, recipe

from latbench.needle import behaviour
from latbench.needle.behaviour import (
    Unsound,
    bug,
    contradicts,
    description,
    shared_words,
    shown,
    telling_calls,
)
from latbench.needle.dice import Dice
from latbench.needle.families import FAMILIES, Family, Slot
from latbench.needle.kinds import KINDS
from latbench.needle.planting import DECOY, TARGET
from latbench.needle.sandbox import _Loop, calls_of, results, sound
from latbench.needle.style import Names, Style, drawn_style
from latbench.needle.trial import Control, Kind, Trial
from latbench.needle.words import NOUNS, QUALITIES, ROLES, VERBS

seeds = st.integers(0, 2**63)


def names(seed: int) -> Names:
    dice = Dice(seed)
    return Names(dice, drawn_style(dice), set())


def run(trial: Trial) -> types.ModuleType:
    """The whole code block, imported. It is all our own: the haystack is generated."""
    module = types.ModuleType("prompt")
    exec(compile(trial.code, "prompt", "exec"), module.__dict__)
    return module


def failing(trial: Trial) -> list[str]:
    """The functions whose examples fail, by Python's own doctest."""
    module = run(trial)
    found = []
    for test in doctest.DocTestFinder().find(module, "prompt", globs=module.__dict__):
        if doctest.DocTestRunner(verbose=False).run(test, out=io.StringIO().write).failed:
            found.append(test.name.removeprefix("prompt."))
    return found


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@given(seed=seeds)
def test_of_the_specimens_exactly_the_target_fails_its_examples(seed: int) -> None:
    trial = built(recipe(Kind.BUG, seed=seed))
    assert failing(trial) == [trial.key.targets[0].name]
    assert len(trial.key.decoys) == behaviour.SPECIMENS - 1
    assert trial.key.chance == pytest.approx(1 / 12)


@given(seed=seeds)
def test_in_a_control_no_specimen_fails(seed: int) -> None:
    assert failing(built(recipe(Kind.BUG, seed=seed, control=Control.ABSENT))) == []


@given(seed=seeds)
def test_one_place_of_one_line_makes_the_bug(seed: int) -> None:
    """The other alternative of a single slot mends it, and it is on the line that is called wrong."""
    planting = bug(names(seed), Dice(seed), True)
    target = planting.items[0]
    line = target.text.splitlines()[target.line]
    assert line.strip()
    assert ">>>" not in line
    assert '"""' not in line


def test_every_sort_of_bug_is_made_and_about_as_often() -> None:
    made = Counter(bug(names(seed), Dice(seed), True).mutation for seed in range(100))
    assert set(made) == {
        *("off-by-one", "wrong operator", "swapped arguments", "wrong variable"),
        *("inverted guard", "missing await", "resource leak", "shared default"),
    }
    assert min(made.values()) >= 3


def test_row_45_an_equivalent_mutation_is_rejected() -> None:
    text = "def {f}({seq:list[int]}, {lim:int}) -> int:\n    return sum(1 for {x} in {seq} if [[test]])\n"
    same = Family(
        "same", text, {"test": Slot(("{x} <= {lim} - 1", "{x} < {lim}"), (), "off-by-one")}, ("ints", "small")
    )
    assert telling_calls(same, (0,), (1,), Dice(1)) is None
    other = Family("other", text, {"test": Slot(("{x} <= {lim}", "{x} < {lim}"), (), "off-by-one")}, ("ints", "small"))
    calls = telling_calls(other, (0,), (1,), Dice(1))
    assert calls is not None
    assert shown(other, (0,), calls) != shown(other, (1,), calls)


def test_row_45_a_family_without_a_telling_example_makes_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviour, "telling_calls", lambda *_: None)
    with pytest.raises(Unsound, match="no example tells"):
        bug(names(1), Dice(1), True)


@pytest.mark.parametrize("count", [0, 2])
def test_row_46_two_specimens_that_fail_their_examples_are_rejected(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    told = iter([True] * count + [False] * 100)
    monkeypatch.setattr(behaviour, "contradicts", lambda _: next(told))
    with pytest.raises(Unsound, match=f"{count} specimens contradict"):
        bug(names(1), Dice(1), True)


def test_a_contradiction_is_seen_in_what_is_printed() -> None:
    text = 'def f(x):\n    """Says.\n\n    >>> f(2)\n    4\n    """\n    return x * 2\n'
    assert not contradicts(text)
    assert contradicts(text.replace("* 2", "* 3"))


@given(seed=seeds)
def test_a_description_fits_one_function_and_shares_no_word_with_the_code(seed: int) -> None:
    trial = built(recipe(Kind.DESCRIPTION, seed=seed))
    question = re.search(r"Which function (.*?)\? If no such", trial.messages[1].content)
    assert question is not None
    assert not shared_words(question[1], trial.code)
    assert len(trial.key.decoys) == behaviour.VARIANTS - 1


@given(seed=seeds)
def test_variants_that_are_rivals_all_behave_differently(seed: int) -> None:
    """On fresh inputs, run as they are printed."""
    planting = description(names(seed), Dice(seed), True)
    family = next(family for family in FAMILIES if family.name == planting.avoid)
    calls = [behaviour.call(family, Dice(seed, "again", number)) for number in range(40)]
    seen = {tuple(results(one.text, calls_of([c.format(f=one.name) for c in calls]))) for one in planting.items}
    assert len(seen) == behaviour.VARIANTS
    assert [item.role for item in planting.items] == [TARGET] + [DECOY] * (behaviour.VARIANTS - 1)


def test_a_description_that_gives_itself_away_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_words("Which function frobs the wagon?", "def pack_blueWagon(): pass") == {"wagon"}
    monkeypatch.setattr(behaviour, "shared_words", lambda *_: {"wagon"})
    with pytest.raises(Unsound, match="no family"):
        description(names(1), Dice(1), True)


def test_phrases_have_no_word_that_code_is_made_of() -> None:
    code = " ".join([*VERBS, *NOUNS, *QUALITIES, *(name for pool in ROLES.values() for name in pool)])
    for family in FAMILIES:
        code += family.text + " ".join(piece for slot in family.slots.values() for piece in slot.codes)
    code = re.sub(r"\{\w+|\[\[\w+\]\]", "", code)
    for family in FAMILIES:
        said = " ".join([family.describe, *(phrase for slot in family.slots.values() for phrase in slot.phrases)])
        assert not shared_words(re.sub(r"\{\w+\}", "", said), code)


def test_names_of_different_roles_are_never_the_same() -> None:
    every = [name for pool in ROLES.values() for name in pool]
    assert len(every) == len(set(every))


def test_every_slot_is_one_place_of_one_line() -> None:
    for family in FAMILIES:
        assert set(re.findall(r"\[\[(\w+)\]\]", family.text)) == set(family.slots)
        for name, slot in family.slots.items():
            assert family.text.count(f"[[{name}]]") == 1
            assert not any("\n" in code for code in slot.codes)
            assert len(set(slot.codes)) == len(slot.codes) > 1
            assert not family.describe or len(slot.phrases) == len(set(slot.phrases)) == len(slot.codes)


@given(seed=seeds, kind=st.sampled_from([Kind.EXECUTION, Kind.CHAIN]))
def test_what_has_to_be_worked_out_is_what_python_says(seed: int, kind: Kind) -> None:
    trial = built(recipe(kind, seed=seed))
    asked = re.search(r"What does (\w+\(.*?\)) return\?", trial.messages[1].content)
    assert asked is not None
    answer = eval(asked[1], run(trial).__dict__)
    assert answer == trial.key.targets[0].value
    assert all(decoy.value != answer for decoy in trial.key.decoys)
    assert str(answer).lstrip("-") not in re.findall(r"\d+", trial.code)
    assert trial.key.chance == 0


@given(seed=seeds)
def test_a_chain_is_spread_and_its_hops_are_recorded(seed: int) -> None:
    key = built(recipe(Kind.CHAIN, seed=seed)).key
    assert len(key.parts) == 3 + 3 * 3
    assert len(key.decoys) == 3
    assert key.asked[0] in {part.name for part in key.parts}


@given(seed=seeds)
def test_one_caller_breaks_the_contract(seed: int) -> None:
    """Every caller is run with things that know their own quantities; one of them passes the wrong ones."""
    trial = built(recipe(Kind.CONTRACT, seed=seed))
    callee = trial.key.asked[0]
    declared = re.search(rf'def {callee}\(.*\n.*"""(.*)"""', trial.code)
    assert declared is not None
    space = run(trial).__dict__
    broken = [
        one.name for one in (*trial.key.targets, *trial.key.decoys) if breaks(one.name, callee, declared[1], space)
    ]
    assert broken == [trial.key.targets[0].name]
    assert {part.name for part in trial.key.parts} == {callee}
    assert trial.key.parts[0].path not in {one.path for one in (*trial.key.targets, *trial.key.decoys)}


def breaks(caller: str, callee: str, says: str, space: dict[str, object]) -> bool:
    """Whether what the callee gets is not what it says it takes."""
    got: list[float] = []
    fields = ("mass", "reach", "depth", "heat", "speed", "price")
    thing = types.SimpleNamespace(seconds=5, millis=5_000, micros=5_000_000)
    for place, field in enumerate(fields):
        setattr(thing, field, 10.0 ** (3 * place + 3))
    callers = {**space, callee: lambda *arguments: got.extend(arguments)}
    function = space[caller]
    assert isinstance(function, types.FunctionType)
    types.FunctionType(function.__code__, callers)(thing, 2)
    if "thousandths" in says:
        return got[0] != 5_000
    first, second = (
        10.0 ** (3 * fields.index(field) + 3) for field in re.findall(r"the (\w+) of a thing, then its (\w+)", says)[0]
    )
    return not (abs(got[0] - first) <= first and abs(got[1] - second) <= second)


@given(seed=seeds)
def test_multi_has_five_in_a_set(seed: int) -> None:
    trial = built(recipe(Kind.MULTI, seed=seed))
    registrar, tag = trial.key.asked
    named = re.findall(rf"^@{registrar}\(['\"]{tag}['\"]\)\ndef (\w+)", trial.code, re.MULTILINE)
    assert sorted(named) == sorted(one.name for one in trial.key.targets)
    assert len(named) == 5


@given(seed=seeds)
def test_a_signature_is_what_it_says(seed: int) -> None:
    key = built(recipe(Kind.SIGNATURE, seed=seed)).key
    for one in (*key.targets, *key.decoys):
        assert tuple(re.findall(r"(\w+)(?:: int)?[,)]", one.line)) == one.value
    assert len({one.value for one in (*key.targets, *key.decoys)}) == 6


def test_the_table_says_what_each_kind_is() -> None:
    assert [info.rung for info in KINDS.values()] == list(range(9))
    assert list(KINDS) == list(Kind)
    assert [kind for kind, info in KINDS.items() if info.may_be_absent] == list(Kind)[:5]


def test_planted_code_is_written_in_the_style_of_its_block() -> None:
    for style in (
        Style(indent="\t", quote="'", annotated=False, camel=True, docstrings=1, comments=1),
        Style(indent="  ", quote='"', annotated=True, camel=False, docstrings=0, comments=0),
    ):
        for kind, info in KINDS.items():
            text = "".join(item.text for item in info.plant(Names(Dice(5), style, set()), Dice(5), True).items)
            assert not re.search(r"^ {4}\S", text, re.MULTILINE) or style.indent == "  "
            assert ("'" in text.replace('"""', "")) <= (style.quote == "'" or kind in (Kind.BUG,))
            assert (" -> " in text or ": int" in text) <= style.annotated
            assert bool(re.search(r"def [a-z]+_", text)) <= (not style.camel)


def test_what_a_mutant_shows_is_never_taken_for_a_value() -> None:
    function = "async def f(a):\n    async def g():\n        return a\n    return g()\n"
    calls = calls_of(["asyncio.run(f(1))", "f()", "1 // 0"])
    given = results(function, calls)
    assert given == ["<coroutine>", "!TypeError", "!ZeroDivisionError"]
    assert not any(sound([one]) for one in given)
    assert sound(["5", "'a'"])
    assert not sound(["x" * 61])


def test_a_template_that_waits_for_something_is_no_template_of_ours() -> None:
    async def waits() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits"):
        _Loop.run(waits())
