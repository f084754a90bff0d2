"""Signatures, held against Signature Version 4 as it is written, by hand with hmac.

The hand itself is checked against AWS's published test suite (`get-vanilla`, `post-x-www-form-urlencoded`). What needs
botocore is skipped where it is not installed; what a user is told then is tested in any case.
"""

import hashlib
import hmac
import sys
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from latbench.model.errors import UserError
from latbench.model.request import Ask, Endpoint, Message
from latbench.providers.base import Signer
from latbench.providers.bedrock import DIALECT
from latbench.providers.sigv4 import region_of, signer

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = "bedrock-runtime.eu-west-1.amazonaws.com"


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "bedrock",
        "base_url": f"https://{HOST}",
        "model": "eu.anthropic.claude-v2:1",
    }
    return Endpoint(**values | fields)


def signature(url: str, method: str, headers: dict[str, str], body: bytes, region: str, service: str) -> str:
    """The steps of the AWS documentation, "Create a signed AWS API request", one after the other.

    `headers` are those to be signed, in lower case, `x-amz-date` among them. The URL has no query.
    """
    date = headers["x-amz-date"]
    signed = ";".join(sorted(headers))
    canonical = "\n".join(
        [
            method,
            quote(urlsplit(url).path, safe="/-_.~"),  # once more than in the URL, as every service but S3 has it
            "",
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            signed,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    found = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={signed}, Signature={found}"


@pytest.mark.parametrize(
    ("method", "headers", "body", "published"),
    [
        ("GET", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "POST",
            {"content-type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_the_hand_agrees_with_the_published_vectors(
    method: str, headers: dict[str, str], body: bytes, published: str
) -> None:
    signed = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"} | headers
    found = signature("https://example.amazonaws.com/", method, signed, body, "us-east-1", "service")
    assert found.rpartition("=")[2] == published


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the published vectors, and no other place where botocore could look."""
    pytest.importorskip("botocore", reason="botocore is not installed: pip install 'latbench[bedrock]'")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def sign(made: Signer, **extra: str) -> tuple[str, dict[str, str], dict[str, str], bytes]:
    """A request as the engine sends it: its URL, its headers, those that sign it, its body."""
    to = endpoint()
    request = DIALECT.build(to, Ask((Message("user", "Grüße"),), 64))
    url = to.base_url + request.path
    return url, request.headers, made(url, request.headers | extra, request.body), request.body


@pytest.mark.usefixtures("credentials")
def test_a_request_is_signed_as_it_is_written() -> None:
    url, headers, added, body = sign(signer(endpoint(), {}))
    assert added.keys() == {"authorization", "x-amz-date"}
    signed = {"content-type": headers["content-type"], "host": HOST, "x-amz-date": added["x-amz-date"]}
    assert "%3A" in url
    assert added["authorization"] == signature(url, "POST", signed, body, "eu-west-1", "bedrock")


@pytest.mark.usefixtures("credentials")
def test_what_amazon_defines_is_signed_and_what_a_proxy_may_change_is_not() -> None:
    url, headers, added, body = sign(signer(endpoint(), {}), **{"x-amz-meta": "1", "x-team": "bench"})
    signed = {
        "content-type": headers["content-type"],
        "host": HOST,
        "x-amz-date": added["x-amz-date"],
        "x-amz-meta": "1",
    }
    assert added["authorization"] == signature(url, "POST", signed, body, "eu-west-1", "bedrock")


@pytest.mark.usefixtures("credentials")
def test_a_session_has_its_token_signed_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    url, headers, added, body = sign(signer(endpoint(), {}))
    signed = {
        "content-type": headers["content-type"],
        "host": HOST,
        "x-amz-date": added["x-amz-date"],
        "x-amz-security-token": "token",
    }
    assert added["x-amz-security-token"] == "token"
    assert added["authorization"] == signature(url, "POST", signed, body, "eu-west-1", "bedrock")


@pytest.mark.usefixtures("credentials")
def test_no_secret_leaves_the_machine() -> None:
    _, _, added, _ = sign(signer(endpoint(), {}))
    assert SECRET not in repr(added)


@pytest.mark.usefixtures("credentials")
def test_without_credentials_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"^endpoint e: botocore finds no AWS credentials .*AWS_ACCESS_KEY_ID"):
        signer(endpoint(), {})


@pytest.mark.usefixtures("credentials")
def test_with_half_a_credential_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"^endpoint e: AWS credentials: .*AWS_SECRET_ACCESS_KEY"):
        signer(endpoint(), {})


def test_without_botocore_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "botocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(UserError, match=r"^endpoint e: .*pip install 'latbench\[bedrock\]'.*AWS_BEARER_TOKEN_BEDROCK"):
        signer(endpoint(), {})


@pytest.mark.parametrize(
    ("host", "environ", "region"),
    [
        (HOST, {}, "eu-west-1"),
        (HOST, {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-2"}, "eu-west-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", {}, "us-gov-west-1"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", {}, "cn-north-1"),
        ("vpce-0a-b.bedrock-runtime.ap-southeast-2.vpce.amazonaws.com", {}, "ap-southeast-2"),
        ("127.0.0.1:8080", {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-2"}, "us-east-1"),
        ("gateway.example", {"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-2"}, "us-east-2"),
        ("notbedrock-runtime.eu-west-1.example", {"AWS_REGION": "us-east-1"}, "us-east-1"),
    ],
)
def test_the_region(host: str, environ: dict[str, str], region: str) -> None:
    assert region_of(endpoint(base_url=f"https://{host}/x"), environ) == region


def test_without_a_region_the_user_is_told() -> None:
    with pytest.raises(UserError, match=r"^endpoint e: base_url names no AWS region: set AWS_REGION"):
        signer(endpoint(base_url="https://gateway.example"), {})
