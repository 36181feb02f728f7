"""What operators see of a concern: the same words for the API and the command line."""

from __future__ import annotations

from external_agent.facts.issues import Concern
from external_agent.present.wording import describe

Json = dict[str, object]


def concern_view(one: Concern) -> Json:
    """Return it as JSON members; ``since`` is unix seconds."""
    what, to_do = describe(one)
    return {
        "kind": str(one.kind),
        "severity": one.severity.name.lower(),
        "about": one.about or None,
        "since": one.since or None,
        "what": what,
        "do": to_do,
    }
