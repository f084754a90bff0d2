"""Text that looks like code, cut into pieces that stand for tokens.

Endless and deterministic: seed and request number fix every piece, and different requests get different text, so that
a cache in between shows. Nobody should try to run it.
"""

from collections.abc import Iterator

from latbench.sim import draws

_STREAM = 16

_WORDS = {
    "verb": ("load", "merge", "scan", "count", "parse", "flush", "route", "retry", "encode", "trim"),
    "noun": ("rows", "batch", "key", "node", "cache", "index", "query", "page", "event", "token", "path", "lock"),
    "type": ("int", "str", "bytes", "float", "bool", "Path"),
    "digit": tuple(str(number) for number in (0, 1, 2, 3, 8, 16, 64, 100, 255, 1024)),
    "mark": ("é", "→", "λ", "✓"),  # more than one byte each: a stream is cut between them, never inside
}

# A line is a row of pieces parted by "|"; a piece in braces, with what stands around it, takes a word of that sort.
_LINES = tuple(
    tuple(line.split("|"))
    for line in (
        "\n\ndef| {verb}|_{noun}|({noun}|:| {type}|,| {noun}|_count|:| int|)| ->| {type}|:",
        '\n    |"""{verb}|s| the| {noun}| of| a| {noun}| {mark}|."""',
        "\n    |{noun}| =| {verb}|_{noun}|({noun}|,| {digit}|)",
        "\n    |if| {noun}| >| {digit}|:",
        "\n        |return| {noun}|[|{digit}|]",
        "\n    |for| {noun}| in| {noun}|.{verb}|():",
        "\n        |{noun}|.{verb}|({noun}|,| {noun}|=|{digit}|)",
        "\n        |{noun}| +=| {digit}",
        "\n    |assert| {noun}| is| not| None",
        "\n    |#| {verb}| once| per| {noun}|,| not| per| {noun}",
        "\n    |return| {noun}",
    )
)


def pieces(seed: int, request: int) -> Iterator[str]:
    """The text of request number `request`, piece by piece, without end. No piece is empty."""
    key = draws.stream_key(seed, request, _STREAM)
    draw = 0
    line: tuple[str, ...] = _LINES[0]
    while True:
        for piece in line:
            before, brace, rest = piece.partition("{")
            if brace:
                sort, _, after = rest.partition("}")
                words = _WORDS[sort]
                yield before + words[draws.integer(key, draw) % len(words)] + after
                draw += 1
            else:
                yield piece
        line = _LINES[draws.integer(key, draw) % len(_LINES)]
        draw += 1
