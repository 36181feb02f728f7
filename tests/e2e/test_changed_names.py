"""Names of a live certificate change: what is served follows, and nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.test_whole_line import APP, WIKI, WWW, Line, issued, line, place, pull_until
from tests.line import Done, Puller, active, leaf_sha256, wait_until

__all__ = ["line"]
pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def names_in(directory: Path) -> list[str]:
    leaf = x509.load_pem_x509_certificate((directory / "current" / "fullchain.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(names.get_values_for_type(x509.DNSName))


@pytest.mark.parametrize("origin", ["agent", "puller"])
def test_a_name_more_and_a_name_less(line: Line, origin: str) -> None:
    token = line.agent.add(WWW, APP, "--key-origin", origin)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        puller.pull()
        issued(line, 1)
        pull_until(puller, line.newest())
        puller.pull()  # leaves the next CSR, where the key is made here
        line.agent.call("change", WWW, "--add-name", WIKI)
        _follow(line, puller, 2)
        assert names_in(place(puller)) == sorted((APP, WIKI, WWW))
        # --- the target names APP still, so what lacks it is refused and the old one serves
        before = active(place(puller))
        said = line.agent.call("change", WWW, "--remove-name", APP).err
        assert f"Without {APP}" in said
        refused = wait_until(lambda: _with_code(puller, 8), what="refused")
        assert APP in refused.err
        assert "--remove-name" in refused.err
        assert active(place(puller)) == before
        puller.call("target", "change", WWW, "--remove-name", APP)
        puller.pull("--retry", expect=None)
        wait_until(lambda: leaf_sha256(place(puller)) == line.newest(), what="installed")
        assert names_in(place(puller)) == sorted((WIKI, WWW))


def test_a_hundred_names_one_of_them_as_people_write_it(line: Line) -> None:
    names = [WWW, "bücher.example.org", *(f"n{number}.example.com" for number in range(98))]
    token = line.agent.add(*names)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        line.ca.wait_for(lambda ca: bool(ca.issued), 60)
        pull_until(puller, line.newest())
        found = names_in(place(puller))
        assert len(found) == 100
        assert "xn--bcher-kva.example.org" in found
        said = line.agent.call(
            "change", "bücher.example.org", "--add-name", "x.example.org", expect=4
        )
        assert "100 names" in said.err
        same = ("--add-name", "xn--bcher-kva.example.org")  # as it is already
        assert "nothing to change" in line.agent.call("change", WWW, *same, expect=3).err.lower()


def test_what_cannot_be_changed(line: Line) -> None:
    line.agent.add(WWW)
    for options, words in (
        (("--remove-name", WWW), "needs a name"),
        (("--remove-name", APP), f"{APP} is no name of this certificate"),
        (("--add-name", f"*.{WWW}"), "cannot be validated by http-01"),
        (("--ca", "zerossl"), "[acme.cas.zerossl]"),
        (("--add-name", "intern"), "intern"),
    ):
        assert words in line.agent.call("change", WWW, *options, expect=None).err
    assert line.agent.certificate(WWW)["names"] == [WWW]


def _with_code(puller: Puller, code: int) -> Done | None:
    """Pull once; return what it said if it ended with this code."""
    done = puller.pull(expect=None)
    return done if done.code == code else None


def _pulled(line: Line, puller: Puller) -> bool:
    """In CSR mode the next order waits for a CSR with today's names."""
    puller.pull(expect=None)
    return True


def _follow(line: Line, puller: Puller, count: int) -> None:
    wait_until(lambda: _pulled(line, puller) and len(line.ca.issued) == count, what="issued")
    pull_until(puller, line.newest())
