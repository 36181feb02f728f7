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
    Kind.NOT_SERVED: (
        "{host} has the new one in place, but its server does not serve it: {error}.",
        "On {host}: internal-puller status shows where it was looked, and what to do; it is looked "
        "at again by itself",
    ),
    Kind.NOT_SEEN: (
        "{host} has the new one in place; whether its server serves it is not known: {error}.",
        "On {host}: internal-puller status shows where it was looked, and what to do; it is looked "
        "at again by itself",
    ),
    Kind.ROLLED_BACK: (
        "{host} rolled the new one back: {error}.{before}",
        "On {host}: internal-puller status, fix the server, then internal-puller pull --retry",
    ),
    Kind.REFUSED: (
        "{host} refused the new one: {error}.{before}",
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

BEFORE = " Generation {before} is in place there."
"""Only where there is one."""

ERRORS: Mapping[str, str] = {
    "install/config-test-failed": "with it the server refuses its configuration",
    "install/served-mismatch": "with it the server showed less than before, or another certificate",
    "install/server-died": "its reload ended the server, which was started again",
    "install/rollback-failed": "the server is not as it was before, also after going back",
    "install/stage-failed": "the files could not be put there",
    "install/reload-failed": "the server could not be told to reload",
    "install/not-taken-up": "the server goes on showing the certificate before",
    "install/not-running": "the server is not running",
    "install/configuration-already-broken": "the server's configuration was already broken",
    "install/cannot-be-seen": "it cannot be seen from that machine",
    "install/another-server": "the probe looks at another server",
    "install/seen-before": "the probe does not look at this server alone",
    "install/not-caused-by-certificate": "the server got worse, but not because of the certificate",
    "install/worse-and-kept": "the server got worse, and the certificate before has expired or "
    "nearly",
}
"""What a receipt's error says; of what has no words here its type alone is shown."""
