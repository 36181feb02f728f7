"""Which release of this software runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("split-horizon-relay")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"
