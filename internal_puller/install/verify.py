"""Checks that the files of a generation are complete, readable and one pair."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from internal_puller.install import layout
from internal_puller.install.formats import (
    FILE_NAMES,
    OWN_COPY,
    pkcs12_as_pem,
    render,
    same_content,
)
from internal_puller.install.generations import Generations
from internal_puller.install.material import Material
from internal_puller.install.presets import Plan, resolve
from shared.contract.errors import KeyMismatch, StageFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

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
            return check_files(generations.read(name), plan, layout.generation_of(name))
    except StageFailed as error:
        problem = error.what.rstrip(".")
        return Verification(layout.generation_of(name), None, None, (), (problem,))


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
        same = render(material, plan.formats, plan.password)
    except KeyMismatch as error:
        return Verification(generation, None, None, (), (*missing, error.what.rstrip(".")))
    differing = [
        f"{name} does not agree with the other files"
        for name in wanted
        if name in files and not same_content(name, files[name], same[name].content, plan.password)
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
    """Return the generation that these files are of; None if it cannot be read from them."""
    material = _material(files, plan)
    try:
        record = json.loads(files[layout.RECORD])
        generation, digest = int(record["generation"]), str(record["manifest_digest"])
    except (KeyError, ValueError, TypeError):
        return None
    if material is None:
        return None
    return replace(material, generation=generation, manifest_digest=digest)


def _material(files: Mapping[str, bytes], plan: Plan) -> Material | None:
    """Rebuild chain and key from whichever of the files hold them."""
    names = FILE_NAMES
    both = files.get(OWN_COPY) or files.get(names["combined"])
    chain = files.get(names["fullchain"]) or both
    if chain is None and names["cert"] in files:
        chain = files[names["cert"]] + files.get(names["chain"], b"")
    key = files.get(names["privkey"]) or both
    if chain is None and key is None and names["pkcs12"] in files:
        chain, key = pkcs12_as_pem(files[names["pkcs12"]], plan.password) or (None, None)
    if chain is None or key is None:
        return None
    certificates = chain[chain.find(b"-----BEGIN CERTIFICATE") :]
    return Material(plan.target.certificate, 0, "", certificates.decode("ascii", "replace"), key)
