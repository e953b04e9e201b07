"""boto3's errors as those of `checkpoint_base.errors`."""

from __future__ import annotations

import re

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from checkpoint_base.errors import CheckpointError, StoreUnavailable, UnsupportedOperation

BOTO_ERRORS = (
    BotoCoreError, ClientError,
    # botocore lets these through when an answer without a stream breaks off, and when it is not S3 that answers.
    HTTPError, ResponseParserError,
    OSError,  # from files and programs that supply credentials
)  # fmt: skip
"""What a call can raise."""

_PASSING = (
    HTTPClientError, BotoConnectionError, IncompleteReadError, HTTPError, ResponseParserError,
    CredentialRetrievalError,  # another service issues them, and may be down
)  # fmt: skip
"""Errors that a retry may get past: no connection, a timeout, or an answer that did not arrive whole."""

# A retry may get past these codes, and past every answer with a status of 500 or more.
_PASSING_CODES = frozenset(
    (
        "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "RequestTimeout",
        "RequestTimeTooSkewed", "InternalError", "ServiceUnavailable", "BadDigest", "IncompleteBody", "NoSuchUpload",
        "ConditionalRequestConflict", "OperationAborted", "ExpiredToken", "QuotaExceeded",
    )
)  # fmt: skip

_ADVICE = {
    "NoSuchBucket": "create the bucket first",
    "AccessDenied": "allow what docs/s3.md lists to these credentials",
    "403": "allow what docs/s3.md lists to these credentials",
    "AllAccessDisabled": "allow what docs/s3.md lists to these credentials",
    "InvalidAccessKeyId": "check the access key",
    "SignatureDoesNotMatch": "check the secret key, and the region",
    "InvalidToken": "check the session token",
    "PermanentRedirect": "name the bucket's region: region_name",
    "AuthorizationHeaderMalformed": "name the bucket's region: region_name",
    "IllegalLocationConstraintException": "name the bucket's region: region_name",
    "NotImplemented": "this store lacks something that is needed; docs/s3.md lists what",
}


_UNTRUSTED = re.compile("certificate verify failed|No such file or directory|Permission denied|no certificate or crl")
"""What is said of a certificate that cannot be verified, or because the file of those to trust cannot be read."""

_CREDENTIALS = re.compile(r"://[^/\s\"']*@")
"""Credentials in the URL of an endpoint. boto3 does not use them, but shows them in its errors."""


def translated(error: Exception, bucket: str) -> CheckpointError:
    """Return our error for one that a boto3 client raised, without credentials in its message."""
    found = _translated(error, f"bucket {bucket!r}")
    return type(found)(_CREDENTIALS.sub("://…@", str(found)))


def _translated(error: Exception, where: str) -> CheckpointError:
    if isinstance(error, ClientError):
        code = _code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = f"{where}: {error.operation_name}: {code}: {error.response.get('Error', {}).get('Message', '')}"
        if code in _ADVICE and not (status >= 500 and code != "NotImplemented"):
            return UnsupportedOperation(f"{said.rstrip('.: ')}; {_ADVICE[code]}")
        if code in _PASSING_CODES or status >= 500 or status in (409, 429):
            return StoreUnavailable(said)
        if code == "404":
            return StoreUnavailable(f"{said}; check that the endpoint is that of an object store")
        return CheckpointError(said)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return UnsupportedOperation(
            f"{where}: {error}; configure them for boto3, for example in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, NoRegionError):
        return UnsupportedOperation(f"{where}: {error} Name one: region_name, or AWS_DEFAULT_REGION")
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return UnsupportedOperation(f"{where}: boto3 cannot get the credentials that it is configured for: {error}")
    if isinstance(error, SSLError) and _UNTRUSTED.search(str(error)):
        return UnsupportedOperation(
            f"{where}: {error}; name the certificate of the authority that signed it in AWS_CA_BUNDLE, or correct the "
            "endpoint"
        )
    if isinstance(error, (*_PASSING, OSError)):
        return StoreUnavailable(f"{where}: {error}")
    if isinstance(error, (ParamValidationError, ProfileNotFound, ValueError)):
        return UnsupportedOperation(f"{where}: {' '.join(str(error).split())}")
    return CheckpointError(f"{where}: {error}")


def is_missing(error: ClientError) -> bool:
    """Whether the object of a call does not exist. A 404 alone is not S3's, but of something between."""
    return _code(error) == "NoSuchKey"


def is_beyond(error: ClientError) -> bool:
    """Whether an object ends before the part that was asked for."""
    return _code(error) in ("InvalidRange", "416")


def is_unmet(error: ClientError) -> bool:
    """Whether the condition of a call did not hold."""
    return _code(error) in ("PreconditionFailed", "412")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
