"""Checks that the files of a generation are complete, readable and one pair."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from internal_puller.install import layout
from internal_puller.install.fixed import wrong_names
from internal_puller.install.formats import (
    FILE_NAMES,
    OWN_COPY,
    agrees,
    as_pem,
    pkcs12_as_pem,
    render,
    split_pem,
)
from internal_puller.install.generations import Generations
from internal_puller.install.material import Material
from internal_puller.install.presets import Plan, resolve
from shared.contract.errors import KeyMismatch, StageFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from internal_puller.settings.targets import Target


@dataclass(frozen=True)
class Verification:
    """What is in place, and what is wrong with it.

    Args:
        generation: None if nothing is installed.
        leaf_sha256, not_after, names: of the leaf; None or empty if it cannot be read.
        problems: one clause each; empty means good.
    """

    generation: int | None
    leaf_sha256: str | None
    not_after: int | None
    names: tuple[str, ...]
    problems: tuple[str, ...]


def verify_active(target: Target) -> Verification:
    """Read the active files of a target and check that they are one matching set.

    Raises:
        ConfigurationError: the target cannot be used.
    """
    plan = resolve(target)
    name = layout.active_name(target)
    if name is None:
        return Verification(None, None, None, (), ("nothing is installed",))
    try:
        with Generations(target, read_only=True) as generations:
            found = check_files(generations.read(name), plan, layout.generation_of(name))
    except StageFailed as error:
        problem = error.what.rstrip(".")
        return Verification(layout.generation_of(name), None, None, (), (problem,))
    if target.layout == "copy":  # what the server reads is the file at its fixed name
        wrong = tuple(what.rstrip(".") for what, _ in wrong_names(target))
        return replace(found, problems=(*found.problems, *wrong))
    return found


def check_files(
    files: Mapping[str, bytes], plan: Plan, generation: int | None = None
) -> Verification:
    """Check the files of one generation, given by name."""
    wanted = [FILE_NAMES[name] for name in plan.formats]
    missing = [f"{name} is missing" for name in (*wanted, layout.RECORD) if name not in files]
    material = _material(files, plan)
    if material is None:
        problem = "no chain and key can be read from the files"
        return Verification(generation, None, None, (), (*missing, problem))
    try:
        material.check_pair()
        same = render(material, plan.rendering)
    except KeyMismatch as error:
        return Verification(generation, None, None, (), (*missing, error.what.rstrip(".")))
    differing = [
        f"{name} does not agree with the other files"
        for name in wanted
        if name in files and not agrees(name, files[name], same[name].content, plan.password)
    ]
    return Verification(
        generation,
        material.leaf_sha256,
        material.not_after,
        leaf_names(material.chain[0]),
        (*missing, *differing),
    )


def leaf_names(leaf: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names of a leaf, sorted."""
    try:
        extension = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return ()
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    return tuple(sorted(extension.value.get_values_for_type(x509.DNSName)))


def rebuild(files: Mapping[str, bytes], plan: Plan) -> Material | None:
    """Return the generation that these files are of; None if they do not hold all of it."""
    material = _material(files, plan)
    try:
        record = json.loads(files[layout.RECORD])
        generation, digest = int(record["generation"]), str(record["manifest_digest"])
        whole = material is not None and len(material.chain) == record["certificates"]
    except (KeyError, ValueError, TypeError, KeyMismatch):
        return None
    if material is None or not whole:
        return None
    return replace(material, generation=generation, manifest_digest=digest)


def _material(files: Mapping[str, bytes], plan: Plan) -> Material | None:
    """Rebuild chain and key from whichever of the files hold them."""
    chain = next((one for one, _ in _sources(files, plan.password) if one), None)
    key = next((one for _, one in _sources(files, plan.password) if one), None)
    if chain is None or key is None:
        return None
    return Material(plan.target.certificate, 0, "", chain.decode("ascii", "replace"), key)


def _sources(files: Mapping[str, bytes], password: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """Give (chain, key) in PEM as far as each format holds them, the fullest first."""

    def of(name: str) -> bytes:
        return files.get(FILE_NAMES[name], b"")

    yield split_pem(files.get(OWN_COPY, b""))
    yield of("fullchain"), of("privkey")
    yield split_pem(of("combined"))
    if of("pkcs12"):
        yield pkcs12_as_pem(of("pkcs12"), password) or (b"", b"")
    leaf = of("cert") or (of("cert-der") and as_pem("CERTIFICATE", of("cert-der")))
    key = of("privkey-der") and as_pem("PRIVATE KEY", of("privkey-der"))
    yield leaf and leaf + of("chain"), key
