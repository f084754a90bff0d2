"""The words that generated code is made of.

Words of code and words of descriptions (`latbench/needle/families.py`) have nothing in common: a description must not
be found by looking for its words. A test holds every list here against every phrase there.
The pools of `ROLES` have no word in common either, so that two names within a function are never the same.
"""


def listed(words: str) -> tuple[str, ...]:
    """Words with blanks between them."""
    return tuple(words.split())


VERBS = listed(
    """
    adjust align apply archive assign attach balance bind blend buffer build cache clip collate commit compact
    convert defer derive detect drain emit encode enqueue expand export fetch fix flush fold format gauge grant hash
    hoist import index inject install link load lock log map mask mount notify pack parse patch plot poll prepare
    probe publish push quote rank render replay report reset resize resolve restore rotate route sample scan
    schedule seal seed select send shard ship sign stage store stream submit sync tag trace trim tune unpack update
    verify wire wrap write
    """
)
NOUNS = listed(
    """
    account agent alarm album anchor archive asset badge barrel beacon branch bridge bucket bundle cabin cable
    camera canal cargo carrier catalog channel client cluster coupon courier crate crew depot device digest docket
    drawer engine event feed fiber field filter flag flight forest fleet gallery garden gate grid harbor header hub
    invoice island job journal kernel label lane laser layer ledger lease lens letter locker lot market medal menu
    meter mirror module motor node notice office orbit order outlet packet page palette panel parcel patrol payload
    permit pilot pipe pixel planet plugin policy pool port portal printer profile project queue quota radar rail
    ranger region relay rental ribbon river robot roster sensor server shelf shelter signal sketch socket spool
    station stock studio survey switch symbol target tenant terminal theme ticket tile token tower track trailer
    transit trunk tunnel turbine valve vault vector vendor vessel voucher wagon wallet warehouse widget window zone
    """
)
QUALITIES = listed(
    """
    active amber ancient basic blue brief bulk calm central cold common coral crisp daily dense distant double dual
    early eastern empty exact external fast final flat foreign fresh gentle global gray green hidden hourly inner
    internal jade joint late lean light linear local main major manual minor mobile mutual narrow native neutral
    nightly northern open orange outer paired partial plain prime private public purple quick quiet rapid raw remote
    rough rural scarlet secure shared silent silver simple smart solar solid southern spare static steady stray tidy
    urban violet virtual weekly western wide
    """
)

ROLES: dict[str, tuple[str, ...]] = {
    "seq": ("rows", "items", "entries", "records", "readings", "batch"),
    "other": ("extras", "peers", "rivals", "mates", "others", "partners"),
    "lim": ("limit", "cap", "ceiling", "cutoff", "level", "mark"),
    "acc": ("total", "tally", "score", "weight", "amount", "volume"),
    "x": ("item", "value", "entry", "row", "point", "cell"),
    "y": ("peer", "extra", "mate", "partner", "rival", "twin"),
    "i": ("i", "pos", "idx", "at", "offset", "slot"),
    "out": ("result", "found", "output", "kept", "picked", "rest"),
    "best": ("best", "top", "chosen", "leader", "winner", "pick"),
    "text": ("text", "line", "raw", "source", "body", "content"),
    "sep": ("sep", "char", "letter", "glyph", "sign", "code"),
    "c": ("c", "ch", "part", "piece", "bit", "unit"),
    "pairs": ("pairs", "links", "edges", "moves", "deals", "rates"),
    "table": ("table", "lookup", "mapping", "store", "registry", "cache"),
    "key": ("key", "name", "label", "tag", "ident", "owner"),
    "num": ("number", "serial", "seed", "n", "quantity", "figure"),
    "base": ("base", "radix", "width", "modulus", "span", "stride"),
    "d": ("digit", "low", "tail", "remainder", "residue", "left"),
    "p": ("a", "u", "p", "alpha", "major", "lead"),
    "q": ("b", "v", "q", "beta", "minor", "follow"),
    "r": ("c0", "w", "r", "gamma", "inset", "aux"),
    "s": ("s", "step", "delta", "shift", "drift", "gain"),
    "t": ("t", "turn", "state", "carry", "hold", "memo"),
    "h": ("handle", "held", "stream", "reader", "conn", "port"),
    "g": ("inner", "once", "apply", "work", "helper", "call"),
}
