"""Certificates from Debian's Pebble, http-01 answered from the agent's own board."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.contract.chain_rules import check_chain
from shared.contract.key_policy import KeyAlgorithm
from shared.contract.x509 import load_chain, load_roots, spki_sha256
from tests.agent_world import AgentWorld, ChallengeBoard, Port80, Puller
from tests.pebble import ChallTestSrv, Pebble, available

pytestmark = [
    pytest.mark.pebble,
    pytest.mark.skipif(not available(), reason="Debian's pebble is not installed"),
]


def test_first_certificate(tmp_path: Path) -> None:
    board = ChallengeBoard()
    with (
        Port80(board) as port80,
        ChallTestSrv(serve_http=False) as dns,
        Pebble(dns=dns.dns, http_port=port80.port, nonce_reject=20) as ca,
        AgentWorld(tmp_path, directory_url=ca.directory_url, roots=ca.minica, board=board) as world,
    ):
        certificate, puller = world.add("www.intra.example.com", "app.example.org")
        assert world.scheduler.run_until_idle() == 1
        pulled = world.pull(puller, certificate)
        assert pulled is not None
        manifest, key = pulled
        chain = load_chain(manifest.chain)
        check_chain(chain, load_roots(ca.issuing_root()), world.now())
        assert manifest.names == ("app.example.org", "www.intra.example.com")
        assert spki_sha256(key) == manifest.spki_sha256
        assert world.published == [certificate]
        assert ca.calls("/order-plz") >= 1
        assert len(board) == 0


def test_many_at_once(tmp_path: Path) -> None:
    board = ChallengeBoard()
    with (
        Port80(board) as port80,
        ChallTestSrv(serve_http=False) as dns,
        Pebble(dns=dns.dns, http_port=port80.port) as ca,
        AgentWorld(
            tmp_path, directory_url=ca.directory_url, roots=ca.minica, board=board, workers=16
        ) as world,
    ):
        puller = Puller()
        wanted = [
            world.add(
                f"host{number}.intra.example.com",
                puller=puller,
                key_algorithm=KeyAlgorithm.EC_P384 if number % 5 == 0 else KeyAlgorithm.EC_P256,
            )[0]
            for number in range(20)
        ]
        assert world.scheduler.run_until_idle() == len(wanted)
        assert all(world.pull(puller, one) is not None for one in wanted)
        assert sorted(world.published) == sorted(wanted)
        assert world.scheduler.run_until_idle() == 0
