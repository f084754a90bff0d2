"""Carries out recipes: the same recipe and the same haystack give the same trial, byte for byte.

The trials of a block share what is planted and the units of filler, which are made and counted once. What comes out is
held against what was asked for, on the final prompt: depth within one point, length within one per cent, every planted
name and number as often as planned. What is not so is laid out again in another order, and never sent.
"""

from collections import OrderedDict
from dataclasses import replace
from functools import partial

import msgspec

from latbench.model.errors import UserError
from latbench.model.request import Message
from latbench.needle.assemble import RESERVE, Ground, NoRoom, Seat, lay_out, planted_tokens
from latbench.needle.behaviour import Unsound
from latbench.needle.counting import Piece, piece, tokens
from latbench.needle.dice import Dice
from latbench.needle.haystack import VERSION, Haystack, header, module_path
from latbench.needle.kinds import KINDS
from latbench.needle.planting import DECOY, PART, TARGET, Item, Planting
from latbench.needle.prompt import Frame, frame, prompt_sha256
from latbench.needle.style import Names
from latbench.needle.survey import Survey
from latbench.needle.trial import AnswerKey, Control, FileStart, Kind, Planted, Recipe, Trial

DEPTH_TOLERANCE = 0.01
LENGTH_TOLERANCE = 0.01
_ATTEMPTS = 8
_BLOCKS_KEPT = 4
_HINTS = (">>>", "TODO", "FIXME", "XXX", "BUG")
"""What filler beside bugs must not have: examples that compete, and hints at bugs of its own."""


class Builder:
    """Makes trials from recipes for one haystack. Not for several threads."""

    def __init__(self, haystack: Haystack) -> None:
        self._haystack = haystack
        self._blocks: OrderedDict[tuple[object, ...], tuple[Planting, Ground]] = OrderedDict()

    def build(self, recipe: Recipe) -> Trial:
        """The trial. Raises UserError where there cannot be one, or where it is not the one that was made before."""
        if recipe.version != VERSION:
            raise UserError(f"trial {recipe.trial}: made by generator {recipe.version}, this one is {VERSION}")
        if recipe.haystack_sha256 not in ("", self._haystack.sha256):
            raise UserError(
                f"trial {recipe.trial}: its haystack ({recipe.source}) was another one; rebuild it where it was made"
            )
        trial = self._made(recipe)
        if recipe.prompt_sha256 not in ("", trial.recipe.prompt_sha256):
            raise UserError(f"trial {recipe.trial}: the prompt is not the one that was sent (its SHA-256 differs)")
        return trial

    def _made(self, recipe: Recipe) -> Trial:
        planting, ground = self._block(recipe)
        around = frame(recipe, planting.question)
        if recipe.control == Control.CLOSED_BOOK:
            return _closed_book(recipe, planting, around, self._haystack.sha256)
        fixed = tokens(around.system) + tokens(around.before) + tokens(around.after)
        for attempt in range(_ATTEMPTS):
            dice = Dice(recipe.seed, "order", recipe.block, recipe.trial, attempt)
            names = Names(dice, ground.names.style, set(ground.names.taken))
            try:
                laid = _laid_out(ground, recipe, recipe.target_tokens - fixed, dice, names)
            except NoRoom:
                continue
            survey = Survey(laid, ground.target)
            head = tokens(survey.code[: survey.target_at])
            inside = head + tokens(survey.code[survey.target_at :])
            if _as_asked(recipe, head / inside, inside + fixed) and as_planned(survey.code, planting):
                recipe = _with_hashes(recipe, around.messages(survey.code), self._haystack.sha256)
                return Trial(
                    recipe=recipe,
                    messages=around.messages(survey.code),
                    code=survey.code,
                    key=_key(recipe.kind, planting, survey.found, tuple(survey.files)),
                    tokens=inside + fixed,
                    code_tokens=inside,
                    depth=head / inside,
                    units=survey.units,
                    mutation=planting.mutation,
                )
        raise UserError(
            f"a trial of kind {recipe.kind}, {recipe.target_tokens:,} tokens, needle at {recipe.depth:.1%}, cannot be "
            f"made: what is planted takes {planted_tokens(ground) + fixed:,} tokens by itself; ask for more tokens, or "
            "for another depth"
        )

    def _block(self, recipe: Recipe) -> tuple[Planting, Ground]:
        """What the trials of this recipe's block share, made once for those that come together."""
        key = (
            recipe.seed,
            recipe.kind,
            recipe.control,
            recipe.block,
            recipe.needle,
            recipe.target_tokens,
            recipe.question,
        )
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        planting, names, dice = self._planted(recipe)
        target, *rivals = [_seat(item, names) for item in planting.items]
        ground = Ground(names, [], self._haystack.loose, target, dice.shuffled(rivals), recipe.kind == Kind.BUG)
        if recipe.control not in (Control.BASE, Control.CLOSED_BOOK):
            around = frame(msgspec.structs.replace(recipe, nonce="0" * len(recipe.nonce)), planting.question)
            budget = recipe.target_tokens - planted_tokens(ground) - RESERVE
            budget -= tokens(around.system) + tokens(around.before) + tokens(around.after)
            filling = Names(Dice(recipe.seed, "filler", recipe.block), names.style, names.taken)
            usable = partial(_usable, (*sorted(planting.unique), *(_HINTS if recipe.kind == Kind.BUG else ())))
            ground = replace(ground, files=self._haystack.filler(filling, budget, usable, planting.avoid))
        self._blocks[key] = planting, ground
        if len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return planting, ground

    def _planted(self, recipe: Recipe) -> tuple[Planting, Names, Dice]:
        present = recipe.control != Control.ABSENT
        style = self._haystack.style(Dice(recipe.seed, "style", recipe.kind, recipe.needle))
        for attempt in range(_ATTEMPTS):
            dice = Dice(recipe.seed, "needle", recipe.kind, recipe.needle, str(present), attempt)
            names = Names(dice, style, set())
            try:
                return KINDS[recipe.kind].plant(names, dice, present), names, dice
            except Unsound:
                continue
        raise Unsound(f"{recipe.kind}, needle {recipe.needle}: no sound planting in {_ATTEMPTS} draws")


def _usable(excluded: tuple[str, ...], text: str) -> bool:
    """Whether a unit of filler may stand beside what is planted."""
    return not any(word in text for word in excluded)


def _seat(item: Item, names: Names) -> Seat:
    before = "".join(item.text.splitlines(keepends=True)[: item.line])
    if not item.own_file:
        return Seat(item, piece(item.text), tokens(before), len(before))
    own, following = header(module_path(names)).text, header(module_path(names)).text
    before = own + before
    return Seat(item, piece(own + item.text + following, opens=True), tokens(before), len(before))


def _laid_out(ground: Ground, recipe: Recipe, length: int, dice: Dice, names: Names) -> list[Piece | Seat]:
    if recipe.control != Control.BASE:
        return lay_out(ground, length, recipe.depth, dice, names)
    early = int(recipe.depth * (len(ground.rivals) + 1))
    return [header(module_path(names)), *ground.rivals[:early], ground.target, *ground.rivals[early:]]


def _as_asked(recipe: Recipe, depth: float, length: int) -> bool:
    """Whether depth and length are within their tolerances. A base has the length and the depth that it has."""
    if recipe.control == Control.BASE:
        return True
    return (
        abs(depth - recipe.depth) <= DEPTH_TOLERANCE
        and abs(length - recipe.target_tokens) <= LENGTH_TOLERANCE * recipe.target_tokens
    )


def as_planned(code: str, planting: Planting) -> bool:
    """Whether every planted name and number stands in the code as often as in what is planted, and no more."""
    return all(
        code.count(word) == sum(item.text.count(word) for item in planting.items) for word in sorted(planting.unique)
    )


def _with_hashes(recipe: Recipe, prompt: tuple[Message, ...], haystack: str) -> Recipe:
    return msgspec.structs.replace(recipe, prompt_sha256=prompt_sha256(prompt), haystack_sha256=haystack)


def _key(kind: Kind, planting: Planting, found: dict[str, Planted], files: tuple[FileStart, ...]) -> AnswerKey:
    by_role = {
        role: tuple(found[item.name] for item in planting.items if item.role == role) for role in (TARGET, DECOY, PART)
    }
    return AnswerKey(
        form=KINDS[kind].form,
        targets=by_role[TARGET],
        decoys=by_role[DECOY],
        asked=planting.asked,
        files=files,
        chance=planting.chance,
        asks_line=KINDS[kind].asks_line,
        parts=by_role[PART],
    )


def _closed_book(recipe: Recipe, planting: Planting, around: Frame, haystack: str) -> Trial:
    """The question alone. What would have been planted has no place: depth 0, line 0, no file."""
    found = {
        item.name: Planted(item.name, "", (), item.text.splitlines()[item.line], 0, 0.0, item.value)
        for item in planting.items
    }
    prompt = around.messages("")
    return Trial(
        recipe=_with_hashes(recipe, prompt, haystack),
        messages=prompt,
        code="",
        key=_key(recipe.kind, planting, found, ()),
        tokens=tokens(around.system) + tokens(around.before) + tokens(around.after),
        code_tokens=0,
        depth=recipe.depth,
        units=0,
        mutation=planting.mutation,
    )
