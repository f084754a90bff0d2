"""AWS Signature Version 4 for requests to Bedrock, through botocore, an optional extra of latbench.

botocore finds the credentials as every AWS tool does: environment, shared files, profile, container or machine. It
reads the environment of this process for that.

Signed are the host, the content type and the headers that begin with `x-amz-`; a proxy may change the others on their
way. Credentials that expire are renewed by botocore in the call that finds them old; an engine waits meanwhile, and
its loop lag shows it.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from latbench.model.errors import UserError
from latbench.model.request import Endpoint
from latbench.providers.base import Signer

_SERVICE = "bedrock"
_REGION_OF_HOST = re.compile(r"(?:^|\.)bedrock-runtime(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-\d+)\.", re.ASCII)
_SIGNATURE = ("authorization", "x-amz-date", "x-amz-security-token")


def region_of(endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    """The region that requests are signed for: the host's own name, else what AWS_REGION or AWS_DEFAULT_REGION says.

    The host comes first, because it refuses a signature for any other region. Raises UserError where nothing says it.
    """
    named = _REGION_OF_HOST.search(urlsplit(endpoint.base_url).hostname or "")
    region = (named and named[1]) or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise UserError(
            f"endpoint {endpoint.name}: base_url names no AWS region: set AWS_REGION where the worker runs, or use an "
            "API key (api_key_env: AWS_BEARER_TOKEN_BEDROCK)"
        )
    return region


def signer(endpoint: Endpoint, environ: Mapping[str, str]) -> Signer:
    """What signs each request to `endpoint`.

    Raises UserError where botocore is not installed, finds no credentials, or no region is known.
    """
    region = region_of(endpoint, environ)
    try:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise UserError(
            f"endpoint {endpoint.name}: signing requests to AWS needs botocore: pip install 'latbench[bedrock]', or "
            "use an API key (api_key_env: AWS_BEARER_TOKEN_BEDROCK)"
        ) from error
    try:
        credentials: Any = Session().get_credentials()
    except BotoCoreError as error:
        raise UserError(f"endpoint {endpoint.name}: AWS credentials: {error}") from error
    if credentials is None:
        raise UserError(
            f"endpoint {endpoint.name}: botocore finds no AWS credentials where the worker runs: set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or use an API key (api_key_env: AWS_BEARER_TOKEN_BEDROCK)"
        )

    def sign(url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        signed = {name: value for name, value in headers.items() if _is_signed(name.lower())}
        request = AWSRequest("POST", url, headers=signed, data=body)
        SigV4Auth(credentials.get_frozen_credentials(), _SERVICE, region).add_auth(request)
        return {name: request.headers[name] for name in _SIGNATURE if name in request.headers}

    return sign


def _is_signed(name: str) -> bool:
    return name in ("host", "content-type") or name.startswith("x-amz-")
