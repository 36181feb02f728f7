"""What the agent asks of the process that makes keys, and what that hands back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from shared.contract.key_policy import KeyAlgorithm


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """One key to make, and whom to seal it to.

    Attributes:
        agent: key id of the agent's signing key.
        recipients: puller id to X25519 public key (32 octets).
    """

    names: tuple[str, ...]
    algorithm: KeyAlgorithm
    agent: str
    certificate: str
    generation: int
    recipients: Mapping[str, bytes]

    def encode(self) -> bytes:
        return json.dumps(
            {
                "names": self.names,
                "algorithm": str(self.algorithm),
                "agent": self.agent,
                "certificate": self.certificate,
                "generation": self.generation,
                "recipients": {name: key.hex() for name, key in self.recipients.items()},
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        members = json.loads(data)
        return cls(
            names=tuple(members["names"]),
            algorithm=KeyAlgorithm(members["algorithm"]),
            agent=members["agent"],
            certificate=members["certificate"],
            generation=members["generation"],
            recipients={n: bytes.fromhex(key) for n, key in members["recipients"].items()},
        )


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """CSR (PEM), SPKI digest, and puller id to sealed key; or the words of an error."""

    csr: bytes = b""
    spki_sha256: str = ""
    sealed: Mapping[str, bytes] | None = None
    error: str = ""

    def encode(self) -> bytes:
        return json.dumps(
            {
                "csr": self.csr.decode("ascii"),
                "spki_sha256": self.spki_sha256,
                "sealed": {
                    name: base64.b64encode(one).decode("ascii")
                    for name, one in (self.sealed or {}).items()
                },
                "error": self.error,
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        members = json.loads(data)
        return cls(
            csr=members["csr"].encode("ascii"),
            spki_sha256=members["spki_sha256"],
            sealed={name: base64.b64decode(one) for name, one in members["sealed"].items()},
            error=members["error"],
        )
