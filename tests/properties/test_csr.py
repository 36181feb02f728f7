"""Hostile octets where a CSR belongs: taken as they should be, or refused in our own words."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from shared.contract.csr import check_csr
from shared.contract.errors import CsrRefused
from tests.vectors.vector import read_all

NAME = "www.intra.example.com"
GOOD = next(vector for vector in read_all("csr") if vector.name == "good").body


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    with contextlib.suppress(CsrRefused):
        check_csr(octets, [NAME])


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.binary(max_size=3), st.integers(0, 3))
def test_a_good_one_that_was_changed(at: int, octet: int, inserted: bytes, cut: int) -> None:
    changed = GOOD[:at] + bytes([octet]) + inserted + GOOD[at + 1 + cut :]
    try:
        csr = check_csr(changed, [NAME])
    except CsrRefused:
        return
    assert changed == GOOD
    assert csr.is_signature_valid
