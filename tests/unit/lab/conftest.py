"""A CA, a site that answers its http-01 checks, and a registered client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.lab import LabCa
from tests.lab.challenge_site import ChallengeSite

from .raw_client import RawClient

MakeCa = Callable[..., LabCa]


@pytest.fixture
def site() -> Iterator[ChallengeSite]:
    with ChallengeSite() as running:
        yield running


@pytest.fixture
def make_ca(site: ChallengeSite) -> Iterator[MakeCa]:
    """Start CAs; at the end none of them may have met a bug of its own."""
    with ExitStack() as stack:
        started: list[LabCa] = []

        def start(**options: Any) -> LabCa:
            ca = stack.enter_context(LabCa(**{"http_port": site.port, **options}))
            started.append(ca)
            return ca

        yield start
        for ca in started:
            assert not [entry for entry in ca.log if "bug" in entry.outcome]


@pytest.fixture
def make_client() -> Iterator[Callable[..., RawClient]]:
    with ExitStack() as stack:

        def start(ca: LabCa, **options: Any) -> RawClient:
            client = stack.enter_context(RawClient(ca, **options))
            assert client.register(contact=["mailto:ops@example.com"]).status == 201
            return client

        yield start


@pytest.fixture
def ca(make_ca: MakeCa) -> LabCa:
    return make_ca()


@pytest.fixture
def client(ca: LabCa, make_client: Callable[..., RawClient]) -> RawClient:
    return make_client(ca)
