"""Which draw a request sends where each prompt goes out several times.

Draws go out in blocks: every prompt of a block once, then every one again. Repeats that left one after the other would
all meet the same moment of the server, and the spread within a prompt would look smaller than it is.
"""

BLOCK = 32
"""How many draws are sent before the first of them is sent again."""


def drawn(number: int, repeat: int, count: int | None) -> int:
    """The draw that request `number` of a step sends, each draw `repeat` times.

    Of `count` requests the last block is as small as the draws that are left, so that it is complete; if `count` is no
    multiple of `repeat`, some of its draws go out less often. With None the end of the step may cut a block.
    """
    if repeat == 1:
        return number
    block, within = divmod(number, BLOCK * repeat)
    size = BLOCK
    if count is not None and (left := -(-count // repeat) - block * BLOCK) > 0:
        size = min(BLOCK, left)
    return block * BLOCK + within % size


def draw_of(number: int, repeat: int, requests: int | None, arms: int) -> int:
    """The same where a draw goes out in so many `arms` each time: `requests` counts all of them."""
    return drawn(number, repeat, None if requests is None else -(-requests // arms))
