"""What an engine sends besides the body: addresses and headers, with the secrets of its machine's environment put in.

Secrets live here and in the transports, and nowhere else: no message, sample or log holds one. An endpoint that
sends a key back, as some do in their error messages, has it taken out of its own words.
"""

from itertools import chain

from msgspec.structs import replace
from yarl import URL

from latbench.engine.transport import Target
from latbench.model.errors import UserError
from latbench.model.request import Ask, Endpoint, Message
from latbench.model.sample import Sample
from latbench.providers.registry import DIALECTS

_SAID_BY_ENDPOINTS = ("error_message", "error_code", "request_id", "model", "fingerprint", "finish_reason", "text")
_SAID_OF_TRIES = ("error_code", "request_id")
_SHORTEST_SECRET = 4  # what is shorter stands in ordinary words
_TELLING_CHARS = 8  # by which the beginning of a secret is known
_HIDDEN = "[secret]"
_SIGNING_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")  # what AWS tools call what they sign with


def targets(endpoint: Endpoint, connect_s: float, environ: dict[str, str]) -> list[Target]:
    """Where to send, one target for each key, with the secrets of this machine's environment put in.

    Raises UserError where a variable is not set here, or holds what cannot stand in a header.
    """
    dialect = DIALECTS[endpoint.api]
    request = dialect.build(endpoint, Ask((Message("user", ""),), 1))
    headers = dict(request.headers)
    for name, value in endpoint.headers.items():
        headers[name.lower()] = value
    for name, variable in endpoint.header_env.items():
        headers[name.lower()] = _secret(endpoint.name, variable, environ)
    signer = dialect.signer(endpoint, environ) if dialect.signer and _is_signed(endpoint) else None
    url = URL(endpoint.base_url, encoded=True)
    keys = [dialect.auth(_secret(endpoint.name, variable, environ)) for variable in endpoint.api_key_env]
    found = [
        Target(
            url,
            headers | {name.lower(): value for name, value in key.items()},
            connect_s,
            endpoint.ca_file,
            endpoint.proxy,
            signer,
        )
        for key in keys or [{}]
    ]
    for name, value in chain.from_iterable(one.headers.items() for one in found):
        if any(ord(char) < 32 or ord(char) == 127 for char in name + value):
            raise UserError(f"endpoint {endpoint.name}: header {name}: a control character cannot stand in a header")
    return found


def secrets_of(endpoints: list[Endpoint], environ: dict[str, str]) -> list[str]:
    """The values that endpoints are sent from the environment, or that sign what they are sent, the longest first."""
    names = chain.from_iterable((*endpoint.api_key_env, *endpoint.header_env.values()) for endpoint in endpoints)
    signing = _SIGNING_SECRETS if any(map(_is_signed, endpoints)) else ()
    values = {environ.get(name, "").strip() for name in chain(names, signing)}
    return sorted((value for value in values if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)


def hide(sample: Sample, secrets: list[str]) -> None:
    """Take secrets out of what an endpoint has said: some send the key back in their error message."""
    if not secrets:
        return
    for name in _SAID_BY_ENDPOINTS:
        if said := getattr(sample, name):
            setattr(sample, name, _without_any(said, secrets))
    for place, one in enumerate(sample.tries):
        said_of_it = {name: said for name in _SAID_OF_TRIES if (said := getattr(one, name))}
        cleaned = {name: _without_any(said, secrets) for name, said in said_of_it.items()}
        if cleaned != said_of_it:
            sample.tries[place] = replace(one, **cleaned)


def _is_signed(endpoint: Endpoint) -> bool:
    """Whether its requests are signed: where its API has that, and no key is named instead."""
    return DIALECTS[endpoint.api].signer is not None and not endpoint.api_key_env


def _without_any(said: str, secrets: list[str]) -> str:
    for secret in secrets:
        said = _without(said, secret)
    return said


def _without(said: str, secret: str) -> str:
    """What begins as the secret does is taken out as far as it goes on like it: the end of capped words may cut it."""
    start = secret[:_TELLING_CHARS]
    kept: list[str] = []
    begin, at = 0, said.find(start)
    while at >= 0:
        end = at + len(start)
        while end < len(said) and end - at < len(secret) and said[end] == secret[end - at]:
            end += 1
        kept += [said[begin:at], _HIDDEN]
        begin, at = end, said.find(start, end)
    return "".join([*kept, said[begin:]])


def _secret(endpoint: str, variable: str, environ: dict[str, str]) -> str:
    value = environ.get(variable, "").strip()
    if not value:
        raise UserError(f"endpoint {endpoint}: the environment variable {variable} is not set on this worker's machine")
    return value
