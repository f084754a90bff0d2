"""Needle trials go out in their order."""

from latbench.model.request import Prompt
from latbench.plan.draw import Drawer, InOrder, drawer


def test_each_sequence_number_sends_the_next_one() -> None:
    prompts = [Prompt(str(at), "t", "python", (), 1, "") for at in range(3)]
    in_order = drawer(1, prompts, {"t": 1.0}, in_order=True)
    assert isinstance(in_order, InOrder)
    assert [in_order.draw(seq) for seq in range(5)] == [0, 1, 2, 0, 1]
    assert isinstance(drawer(1, prompts, {"t": 1.0}), Drawer)
