"""Programs that tests need from the system: missing here is a skip, missing in CI a failure."""

from __future__ import annotations

import os
import shutil

import pytest

_OVERRIDES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def require(binary: str) -> str:
    """Return the path of `binary`; skip the test when it is missing, fail it when CI=true."""
    path = os.environ.get("PATH", os.defpath)
    found = shutil.which(binary, path=f"{path}{os.pathsep}/usr/sbin{os.pathsep}/sbin")
    if found is None:
        reason = f"{binary} is not installed, so nothing was tried with it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def clean_environment(**more: str) -> dict[str, str]:
    """Return this environment for a peer, without what would change whom it trusts."""
    kept = {name: value for name, value in os.environ.items() if name not in _OVERRIDES}
    return {**kept, **more}
