"""English."""

from __future__ import annotations

from collections.abc import Mapping

from external_agent.facts.issues import Kind

CONCERNS: Mapping[Kind, tuple[str, str]] = {
    Kind.EXPIRED: (
        "The certificate expired at {at}.",
        "See its last error below and mend it, then: external-agent renew {certificate}",
    ),
    Kind.EXPIRING: (
        "It expires at {at}, and there is no newer one.",
        "See why it was not renewed: external-agent status {certificate}",
    ),
    Kind.FAILING: (
        "{count} attempts failed in a row: {error}",
        "Mend what is named; the next attempt is at {next}, or now by: external-agent renew "
        "{certificate}",
    ),
    Kind.REVOKED: (
        "The newest generation was revoked at {at} ({reason}).",
        "Wait for the next one; if none comes: external-agent renew {certificate}",
    ),
    Kind.ISSUING: ("The first certificate is on its way.", "Nothing."),
    Kind.NO_PULLER: (
        "No machine inside fetches it.",
        "Print a token, external-agent token {certificate}, and on the machine: internal-puller "
        "enroll",
    ),
    Kind.AWAITING_CSR: (
        "It waits for a CSR from {host}, which makes the key.",
        "On {host}: internal-puller status",
    ),
    Kind.SERVED_DIFFERS: (
        "{host} serves another certificate ({leaf}…) than the one issued.",
        "On {host}: internal-puller verify; does the server read the files in current/?",
    ),
    Kind.ROLLED_BACK: (
        "{host} rolled the new one back: {error}. The one before is served.",
        "On {host}: internal-puller status, mend the server, then internal-puller pull --retry",
    ),
    Kind.REFUSED: (
        "{host} refused the new one: {error}. The one before is served.",
        "On {host}: internal-puller status",
    ),
    Kind.NOT_PULLED: (
        "{host} has not fetched what was issued at {at}.",
        "On {host}: internal-puller pull",
    ),
    Kind.NOT_INSTALLED: (
        "{host} has fetched the one of {at}, and has not installed it.",
        "On {host}: internal-puller status",
    ),
    Kind.PULLER_FAULT: (
        "{host} cannot install the new one because of a fault on that machine: {error}.",
        "On {host}: internal-puller doctor",
    ),
    Kind.NO_TARGET: (
        "The target on {host} was removed: nothing installs it there any more.",
        "If that is so for good: external-agent puller withdraw {host} {certificate}",
    ),
    Kind.PULLER_SILENT: (
        "{host} was heard last at {at}.",
        "On {host}: internal-puller status, and systemctl status internal-puller.timer",
    ),
    Kind.PULLER_SUSPENDED: (
        "{host} is suspended: its enrolment token was offered by somebody else, too.",
        "Find out who had the token, then: external-agent puller confirm {puller}, or revoke",
    ),
    Kind.TWO_MACHINES: (
        "Two machines use the keys of {host}: {one} and {other}, by turns since {at}. One is a "
        "copy of the other.",
        "On the copy, stop internal-puller, remove its state directory "
        "(/var/lib/split-horizon-relay/puller), and enrol it with a token of its own: "
        "external-agent token {certificate}",
    ),
    Kind.RECORD_BAD: (
        "The dns-persist-01 record of {name} does not stand: {words}",
        "Print it: external-agent dns-persist record {name}",
    ),
    Kind.RECORD_ENDS: (
        "The dns-persist-01 record of {name} ends at {at}.",
        "Print a new one: external-agent dns-persist record {name} --until DATE",
    ),
}
