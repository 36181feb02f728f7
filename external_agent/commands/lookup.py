"""What an operator typed becomes the id of a certificate or a puller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from external_agent.facts.policy import RELAY_CERTIFICATE
from shared.contract.errors import NameRefused, PolicyError
from shared.contract.identifiers import DnsName

if TYPE_CHECKING:
    from external_agent.commands.client import Api


def find_certificate(api: Api, text: str) -> str:
    """Return the id of the certificate that is meant by its id or one of its names.

    Raises:
        PolicyError: there is none, or there are several.
    """
    if text == RELAY_CERTIFICATE:
        return str(api.get("certificates", text)["certificate"])
    try:
        name: str = DnsName.parse(text)
    except NameRefused:
        name = text
    rows = [
        row for one in dict.fromkeys((text, name)) for row in api.pages("certificates", name=one)
    ]
    exact = [row["certificate"] for row in rows if row["certificate"] in (text, name)]
    found = list(dict.fromkeys(exact or [row["certificate"] for row in rows]))
    if len(found) == 1:
        return str(found[0])
    if found:
        raise PolicyError(f"{text!r:.80} is in several certificates: {', '.join(found)}.")
    some = [row["certificate"] for row in api.get("certificates", limit=10)["items"]]
    raise PolicyError(
        f"There is no certificate {text!r:.80} here.",
        do=f"Known ones: {', '.join(some) or 'none yet'}. Add one with external-agent add NAME.",
    )


def find_puller(api: Api, text: str) -> str:
    """Return the id of the puller that is meant by the beginning of its id, or its host name.

    Raises:
        PolicyError: there is none, or there are several.
    """
    rows = list(api.pages("pullers", limit=200))
    found = [row["puller"] for row in rows if row["host"] == text]
    if len(text) >= 6:
        found += [
            row["puller"]
            for row in rows
            if row["puller"].startswith(text) and row["puller"] not in found
        ]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise PolicyError(f"{text!r:.80} means several pullers: give more of the id.")
    raise PolicyError(
        f"There is no puller {text!r:.80} here.", do="See external-agent puller list."
    )
