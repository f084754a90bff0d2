"""Trials are what was asked for, to the token, and the same every time."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from needle_recipes import ABSENT_KINDS, builder, built, recipe

from latbench.model.errors import UserError
from latbench.needle.behaviour import Unsound
from latbench.needle.build import Builder, as_planned
from latbench.needle.counting import piece
from latbench.needle.haystack import File, Generated, header
from latbench.needle.kinds import KINDS
from latbench.needle.planting import TARGET, Item, Planting
from latbench.needle.style import Names, Style
from latbench.needle.trial import Control, Kind, Trial
from latbench.scenario.tokens import count

GOLDENS = Path(__file__).with_name("golden_prompts.json")


def golden_recipes() -> dict[str, object]:
    """What the goldens are of: every kind, with its controls, in every place of the question."""
    made = {f"{kind}": recipe(kind, 4_000, 0.3) for kind in Kind}
    made |= {f"{kind} absent": recipe(kind, 4_000, 0.7, control=Control.ABSENT) for kind in ABSENT_KINDS}
    made["base"] = recipe(Kind.BUG, control=Control.BASE)
    made["closed book"] = recipe(Kind.BUG, control=Control.CLOSED_BOOK)
    made["before"] = recipe(Kind.BUG, 4_000, 0.3, question="before")
    made["both"] = recipe(Kind.BUG, 4_000, 0.3, question="both")
    made["another seed"] = recipe(Kind.BUG, 4_000, 0.3, seed=8)
    made["long"] = recipe(Kind.DESCRIPTION, 30_000, 0.9)
    return made


def words_of(code: str) -> list[str]:
    return re.findall(r"\w+", code)


def check(trial: Trial) -> None:
    """Everything that holds for every trial with code."""
    made, key = trial.recipe, trial.key
    assert trial.code in trial.messages[1].content
    assert abs(trial.tokens - made.target_tokens) <= 0.01 * made.target_tokens
    assert abs(trial.depth - made.depth) <= 0.01
    # Counted by other means: the text of the prompt, and the lines before the answer-bearing one.
    assert trial.tokens == sum(count(message.content) for message in trial.messages)
    assert trial.code_tokens == count(trial.code)
    lines = trial.code.split("\n")
    for planted in (*key.targets, *key.decoys, *key.parts):
        assert lines[planted.line_number - 1] == planted.line
        before = count("".join(f"{line}\n" for line in lines[: planted.line_number - 1]))
        assert planted.depth == pytest.approx(before / trial.code_tokens)
        path = [file.path for file in key.files if file.line_number <= planted.line_number][-1]
        assert planted.path == path
        assert planted.qualifiers[0] == Path(path).stem
    for file in key.files:
        assert lines[file.line_number - 1] == f"# path: {file.path}"
    if key.targets:
        assert key.targets[0].depth == trial.depth
    ast.parse(trial.code)


@given(
    kind=st.sampled_from(list(Kind)),
    tokens=st.integers(2_500, 5_000),
    depth=st.floats(0.08, 0.92),
    seed=st.integers(0, 2**63),
)
def test_depth_length_syntax_and_uniqueness(kind: Kind, tokens: int, depth: float, seed: int) -> None:
    trial = built(recipe(kind, tokens, depth, seed=seed))
    check(trial)
    every = words_of(trial.code)
    for planted in (*trial.key.targets, *trial.key.decoys):
        defined = re.findall(rf"^(?:async def|def|class) {planted.name}\b|^{planted.name} =", trial.code, re.MULTILINE)
        assert len(defined) == 1
    if kind in (Kind.EXECUTION, Kind.CHAIN):
        assert str(trial.key.targets[0].value).lstrip("-") not in every
    if kind == Kind.CONSTANT:
        assert every.count(str(trial.key.targets[0].value)) == 1


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.BUG])
def test_a_thousand_tokens_hold_every_kind_but_the_bug(kind: Kind) -> None:
    for depth in (0.3, 0.5, 0.7):
        check(built(recipe(kind, 1_000, depth)))


@pytest.mark.parametrize("kind", list(Kind))
def test_the_edges_of_long_code(kind: Kind) -> None:
    for depth in (0.02, 0.98):
        check(built(recipe(kind, 20_000, depth)))


@pytest.mark.long
@pytest.mark.parametrize("kind", [Kind.CONSTANT, Kind.BUG])
def test_a_million_tokens(kind: Kind) -> None:
    trial = built(recipe(kind, 1_000_000, 0.51234))
    assert abs(trial.depth - 0.51234) < 0.001
    assert abs(trial.tokens - 1_000_000) < 1_000
    ast.parse(trial.code)
    heads = re.findall(r"^(?:async def|def|class) (\w+)", trial.code, re.MULTILINE)
    assert len(set(heads)) == len(heads) > 10_000


@pytest.mark.parametrize("kind", ABSENT_KINDS)
def test_absent_controls_lack_the_target_and_nothing_else(kind: Kind) -> None:
    present, absent = built(recipe(kind)), built(recipe(kind, control=Control.ABSENT))
    check(absent)
    assert absent.key.targets == ()
    assert not absent.key.present
    assert len(absent.key.decoys) == len(present.key.decoys) + 1
    assert absent.mutation == ""
    for asked in absent.key.asked:
        assert asked not in words_of(absent.code)
    if kind == Kind.BODY_FACT:
        literal = re.search(r"literal ['\"](.+)['\"]\?", absent.messages[1].content)
        assert literal is not None
        assert literal[1] not in absent.code


@pytest.mark.parametrize("kind", list(Kind))
def test_without_the_needle_the_code_still_parses(kind: Kind) -> None:
    trial = built(recipe(kind))
    tree = ast.parse(trial.code)
    for node in tree.body:
        if getattr(node, "name", "") == trial.key.targets[0].name:
            lines = trial.code.split("\n")
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            ast.parse("\n".join(lines[: first - 1] + lines[node.end_lineno or first :]))


def test_a_block_shares_needle_and_filler_and_differs_in_order() -> None:
    trials = [built(recipe(Kind.BUG, 6_000, depth, trial=str(depth))) for depth in (0.1, 0.3, 0.5, 0.7, 0.9)]
    units = [set(re.split(r"\n\n\n+", trial.code)) for trial in trials]
    shared = set.intersection(*units)
    for trial, own in zip(trials, units, strict=True):
        assert trial.key.targets[0].name == trials[0].key.targets[0].name
        assert {decoy.name for decoy in trial.key.decoys} == {decoy.name for decoy in trials[0].key.decoys}
        # What is not shared is headers, and constants that close the gaps.
        assert sum(len(unit) for unit in shared) > 0.85 * sum(len(unit) for unit in own)
    orders = [re.findall(r"^def (\w+)", trial.code, re.MULTILINE) for trial in trials]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_the_needle_is_the_same_at_every_length() -> None:
    short, long = built(recipe(Kind.BUG, 3_000)), built(recipe(Kind.BUG, 12_000))
    assert short.key.targets[0].line == long.key.targets[0].line
    assert {one.name for one in short.key.decoys} == {one.name for one in long.key.decoys}
    base = built(recipe(Kind.BUG, control=Control.BASE))
    assert base.key.targets[0].name == short.key.targets[0].name
    assert base.units == 0
    ast.parse(base.code)


def test_a_closed_book_has_the_question_and_no_code() -> None:
    trial = built(recipe(Kind.BUG, control=Control.CLOSED_BOOK))
    assert trial.code == ""
    assert "def " not in trial.messages[1].content
    assert trial.key.present


def test_the_nonce_comes_first_and_is_of_constant_length() -> None:
    trial = built(recipe(Kind.CONSTANT))
    assert trial.messages[0].content.startswith("# build 0123456789abcdef\n")
    assert sum(message.content.count("0123456789abcdef") for message in trial.messages) == 1


def test_where_the_question_stands() -> None:
    prompts = {
        place: built(recipe(Kind.CONSTANT, question=place)).messages[1].content for place in ("after", "before", "both")
    }
    places = {
        place: [found.start() for found in re.finditer("What is the value", text)] for place, text in prompts.items()
    }
    code = {place: text.index("```python") for place, text in prompts.items()}
    assert [start > code["after"] for start in places["after"]] == [True]
    assert [start > code["before"] for start in places["before"]] == [False]
    assert [start > code["both"] for start in places["both"]] == [False, True]
    assert all("If no such item exists, answer ABSENT." in text for text in prompts.values())


def test_positive_and_control_are_asked_in_the_same_words() -> None:
    frames = set[str]()
    for control in (Control.NONE, Control.ABSENT):
        trial = built(recipe(Kind.BUG, control=control))
        frames.add(trial.messages[1].content.replace(trial.code, ""))
    assert len(frames) == 1


@given(kind=st.sampled_from(list(Kind)), seed=st.integers(0, 2**63), other=st.integers(0, 2**63))
def test_another_seed_is_another_haystack(kind: Kind, seed: int, other: int) -> None:
    one, two = (built(recipe(kind, seed=given_seed)) for given_seed in (seed, other))
    assert (one.recipe.prompt_sha256 == two.recipe.prompt_sha256) == (seed == other)
    if seed != other:
        shared = set(re.findall(r"^(?:def|class) (\w+)", one.code, re.MULTILINE)) & set(
            re.findall(r"^(?:def|class) (\w+)", two.code, re.MULTILINE)
        )
        assert len(shared) <= 1


def test_every_block_has_a_haystack_of_its_own() -> None:
    codes = [built(recipe(Kind.BUG, needle=number)).code for number in range(10)]
    names = [set(re.findall(r"^(?:def|class) (\w+)", code, re.MULTILINE)) for code in codes]
    assert all(len(one & two) <= 1 for place, one in enumerate(names) for two in names[:place])


def test_a_recipe_is_rebuilt_byte_for_byte_and_held_against_its_hash() -> None:
    first = built(recipe(Kind.BUG, 5_000, 0.62))
    sent = msgspec.json.decode(msgspec.json.encode(first.recipe), type=type(first.recipe))
    again = Builder(Generated()).build(sent)
    assert again == first
    for changed, message in (
        ({"prompt_sha256": "0" * 64}, "not the one that was sent"),
        ({"haystack_sha256": "0" * 64}, "was another one"),
        ({"version": 0}, "made by generator 0"),
        ({"nonce": "fedcba9876543210"}, "not the one that was sent"),
    ):
        with pytest.raises(UserError, match=message):
            builder().build(msgspec.structs.replace(sent, **changed))


@pytest.mark.parametrize("name", sorted(golden_recipes()))
def test_prompts_are_the_same_on_every_machine(name: str) -> None:
    """After a change that means to change prompts: raise `VERSION`, and run this file as a program."""
    assert built(golden_recipes()[name]).recipe.prompt_sha256 == json.loads(GOLDENS.read_text())[name]


@pytest.mark.long
def test_no_hash_seed_and_no_locale_changes_a_prompt(tmp_path: Path) -> None:
    for environment in ({"PYTHONHASHSEED": "1", "LC_ALL": "C"}, {"PYTHONHASHSEED": "2", "LC_ALL": "tr_TR.UTF-8"}):
        printed = subprocess.run(
            [sys.executable, __file__, "--print"],
            env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parent)},
            cwd=tmp_path,
            capture_output=True,
            check=True,
        ).stdout
        assert json.loads(printed) == json.loads(GOLDENS.read_text())


def test_what_cannot_be_made_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"bug, 1,000 tokens, needle at 50.0%, cannot be made: .* ask for more tokens"):
        built(recipe(Kind.BUG, 1_000))
    with pytest.raises(UserError, match=r"needle at 0\.1%"):
        built(recipe(Kind.BUG, 3_000, 0.001))


class Crafted:
    """A haystack of one unit, to be met by a needle."""

    source, sha256, loose = "generated", "0" * 64, True

    def __init__(self, unit: str) -> None:
        self.unit, self.offered = unit, list[bool]()

    def style(self, dice: object) -> Style:
        del dice
        return Style()

    def filler(self, names: Names, budget: int, usable: object, avoid: str) -> list[File]:
        del names, budget, avoid
        assert callable(usable)
        self.offered.append(usable(self.unit))
        return [File(header("a/b.py"), (piece(self.unit),) if self.offered[-1] else ())]


def test_row_44_a_planted_name_that_exists_in_filler_is_rejected() -> None:
    name = Builder(Crafted("x = 1\n\n\n")).build(recipe(Kind.CONSTANT, 1_000)).key.targets[0].name
    crafted = Crafted(f"{name} = 5\n\n\n")
    trial = Builder(crafted).build(recipe(Kind.CONSTANT, 1_000))
    assert crafted.offered == [False]
    assert words_of(trial.code).count(name) == 1


def test_row_44_the_final_prompt_is_checked_as_well() -> None:
    planting = Planting(
        (Item(TARGET, "load_row", "def load_row():\n    return 5\n"),), "?", unique=frozenset(["load_row"])
    )
    assert as_planned("def load_row():\n    return 5\n", planting)
    assert not as_planned("def load_row():\n    return 5\nload_row()\n", planting)
    assert not as_planned("", planting)


@pytest.mark.parametrize("text", ["ANSWER: 5", ">>> f(3)", "# TODO: mend"])
def test_filler_with_examples_or_hints_is_kept_from_bugs(text: str) -> None:
    crafted = Crafted(f'def f():\n    """{text}"""\n\n\n')
    Builder(crafted).build(recipe(Kind.BUG, 3_000))
    assert crafted.offered == [text.startswith("ANSWER")]  # that one is dropped where code is harvested


def test_a_kind_that_is_never_sound_is_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsound(*_: object) -> Planting:
        raise Unsound("never")

    monkeypatch.setitem(KINDS, Kind.BUG, msgspec.structs.replace(KINDS[Kind.BUG], plant=unsound))
    with pytest.raises(Unsound, match="no sound planting"):
        Builder(Generated()).build(recipe(Kind.BUG))


if __name__ == "__main__":
    hashes = {name: built(made).recipe.prompt_sha256 for name, made in golden_recipes().items()}
    if "--print" in sys.argv:
        sys.stdout.write(json.dumps(hashes))
    else:
        GOLDENS.write_text(json.dumps(hashes, indent=1) + "\n")
