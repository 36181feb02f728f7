"""Every error the product raises on purpose, in one tree.

    RelayError
    ├── ConfigurationError            3   a setting, file or argument is wrong; nothing was done
    │   ├── LooseFileMode                 others may change it, or read a secret
    │   ├── PortUnavailable               a listener cannot bind
    │   ├── CaNotConfigured               this CA cannot be used with its settings; another may
    │   └── ClockWrong                7   our clock and a peer's differ by more than 300 s
    ├── PolicyError                   4   not allowed: a name, a grant, a challenge
    │   ├── NameRefused                   not a public DNS name
    │   └── CsrRefused                    a CSR for which no certificate is ordered
    ├── EnrolmentError                5   a token or the keys offered with it
    │   ├── TokenMalformed
    │   ├── TokenUnknown
    │   ├── TokenExpired
    │   ├── TokenUsed
    │   └── KeysRefused
    ├── IssuanceError                 6   the CA and we
    │   ├── IssuanceRejected              do not retry soon: the CA said no
    │   │   ├── OrderGone                 the order no longer exists at the CA: make another
    │   │   └── ValidationFailed          the CA could not validate a name
    │   ├── IssuanceRateLimited           retry after the moment given
    │   ├── IssuanceUnavailable           retry: network, 5xx, nonsense in between
    │   │   └── DnsUnavailable            retry: the public DNS could not be asked
    │   ├── DnsFailure                    retry: the DNS did not take or show our record
    │   └── IssuanceUnfinished            the same order is to be resumed, not replaced
    ├── TransportError                7   puller and agent; retry
    │   ├── MalformedMessage              not a message of the relay protocol
    │   ├── SignatureMalformed            signature headers outside the profile
    │   ├── AnswerUnauthenticated         not signed by the pinned agent for this request
    │   ├── RequestRefused                a signed refusal
    │   ├── RefusedForNow                 a signed refusal that ends by itself
    │   └── PullerRevoked                 a signed refusal that retrying does not cure
    ├── BundleError                   8   never installed
    │   ├── MalformedBundle
    │   ├── BadSignature
    │   ├── WrongAgent
    │   ├── WrongRecipient
    │   ├── UnknownCertificate
    │   ├── KeyOriginRefused
    │   ├── StaleGeneration
    │   ├── FutureGeneration
    │   ├── ConflictingGeneration
    │   ├── OutsideValidity
    │   ├── UntrustedChain
    │   ├── NameMismatch
    │   ├── UnsuitableKey                 a key of a kind or in a form that no certificate may have
    │   ├── KeyMismatch
    │   └── SealBroken
    ├── InstallError                  9   what a new certificate made worse is undone, the rest kept
    │   ├── StageFailed                   the files could not be put there
    │   ├── ConfigTestFailed              back: with it the server refuses its configuration
    │   ├── ServedMismatch                back: with it less, or another one, is served
    │   ├── ServerDied                    back: its reload ended the server, which was started again
    │   ├── ReloadFailed                  kept: the server could not be told
    │   ├── NotTakenUp                    kept: the server goes on showing the one before
    │   ├── NotRunning                    kept: the server did not run
    │   ├── ConfigurationBrokenBefore     kept: the configuration is refused without it, too
    │   ├── CannotBeSeen                  kept: nobody can look from here
    │   ├── AnotherServer                 kept: the probe looks at another server
    │   ├── SeenBefore                    kept: the probe does not look at this server alone
    │   ├── NotCausedByCertificate        kept: going back did not help
    │   ├── WorseAndKept                  kept: the one before has expired, or nearly
    │   └── RollbackFailed           12   the one that wants a person at once
    ├── InstallBusy                  10   another pull holds the host's lock
    └── StoreError                   11   the database is locked, gone or full
        ├── StoreUnavailable
        └── FenceLost                     another worker took the lease over

The class decides whether to retry and which code a command exits with, never the message.
"""

from __future__ import annotations

from typing import ClassVar

from shared.contract.plain_text import one_line

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2


class RelayError(Exception):
    """What happened, what it means for the operator, and what to do next.

    Args:
        what: one sentence that names the thing at fault and where it was found.
        do: what the operator can do; the class has a default.

    Attributes:
        type: stable name of the class, ``family/member``; used in receipts, events and metrics.
        exit_code: what a command ends with.
        retry: whether trying the same again later can help.
        means: what it means for the operator; the class has a default.
    """

    type: ClassVar[str] = "error"
    exit_code: ClassVar[int] = EXIT_UNEXPECTED
    retry: ClassVar[bool] = False
    means: str = ""
    do: str = ""

    def __init__(self, what: str, *, do: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        if do is not None:
            self.do = do

    def explain(self) -> str:
        """Return the whole message for an operator: what, meaning, next step; one line each."""
        return "\n".join(one_line(part) for part in (self.what, self.means, self.do) if part)


def unexpected(subject: str, fault: Exception) -> RelayError:
    """Return what is said of a bug that must not stop the work on anything else.

    Args:
        subject: what was being worked on.
    """
    what = f"{subject}: unexpected {type(fault).__name__}: {fault}."
    return RelayError(what, do="Please report it: it is our fault.")


# --- configuration ---------------------------------------------------------------------------


class ConfigurationError(RelayError):
    type = "configuration"
    exit_code = 3
    means = "Nothing was changed."


class LooseFileMode(ConfigurationError):
    type = "configuration/loose-file-mode"
    means = "It was not used."
    do = "Give the file to the service's user with mode 0600, and its directory mode 0700."


class PortUnavailable(ConfigurationError):
    type = "configuration/port-unavailable"
    means = "The listener was not started."
    do = "Stop what listens there, choose another address, or let systemd pass the socket."


class CaNotConfigured(ConfigurationError):
    """Terms, account binding, profile: what concerns one CA and would not concern another."""

    type = "configuration/ca"
    means = "No order was made at this CA."


class ClockWrong(ConfigurationError):
    type = "configuration/clock"
    exit_code = 7
    retry = True
    means = "Certificates and signed messages depend on the time, so nothing was done."
    do = "Set the clock (chrony or systemd-timesyncd) and try again."


# --- policy ----------------------------------------------------------------------------------


class PolicyError(RelayError):
    type = "policy"
    exit_code = 4
    means = "Nothing was changed."


class NameRefused(PolicyError):
    type = "policy/name"
    do = "Give a name under a public domain, such as www.intra.example.com."


class CsrRefused(PolicyError):
    type = "policy/csr"
    do = "The puller makes another key and CSR by itself; run the same release on both sides."


# --- enrolment -------------------------------------------------------------------------------


class EnrolmentError(RelayError):
    type = "enrolment"
    exit_code = 5
    means = "This machine was not enrolled."
    do = "Make a new token on the agent: external-agent token NAME."


class TokenMalformed(EnrolmentError):
    type = "enrolment/token-malformed"
    do = "Paste the whole line that external-agent printed, from shr1_ to its end."


class TokenUnknown(EnrolmentError):
    type = "enrolment/token-unknown"


class TokenExpired(EnrolmentError):
    type = "enrolment/token-expired"


class TokenUsed(EnrolmentError):
    type = "enrolment/token-used"
    do = (
        "If this machine did not use it, another one did: the agent has suspended that puller. "
        "Look at external-agent events, then make a new token."
    )


class KeysRefused(EnrolmentError):
    type = "enrolment/keys-refused"
    do = (
        "Remove signing.key, sealing.key and enrolment.json from the puller's state directory, and "
        "enrol again with a new token; what it learned stays."
    )


# --- issuance --------------------------------------------------------------------------------


class IssuanceError(RelayError):
    """Args:
    retry_after: seconds the CA asks us to wait, if it said so.
    problem: the CA's problem document (RFC 8555 section 6.7), if there was one.
    """

    type = "issuance"
    exit_code = 6
    means = "The certificate in place goes on serving."

    def __init__(
        self,
        what: str,
        *,
        do: str | None = None,
        retry_after: float | None = None,
        problem: dict[str, object] | None = None,
    ) -> None:
        super().__init__(what, do=do)
        self.retry_after = retry_after
        self.problem = problem


class IssuanceRejected(IssuanceError):
    type = "issuance/rejected"
    retry = True
    do = "Read the CA's answer above; the next attempt waits, longer each time."


class OrderGone(IssuanceRejected):
    type = "issuance/order-gone"
    do = "Nothing to do: the next attempt makes another order."


class ValidationFailed(IssuanceRejected):
    type = "issuance/validation"
    do = "Look at the name as the CA does: its DNS, and port 80 or the TXT record."


class IssuanceRateLimited(IssuanceError):
    type = "issuance/rate-limited"
    retry = True
    do = "Nothing to do: the next attempt is made when the CA permits it."


class IssuanceUnavailable(IssuanceError):
    type = "issuance/unavailable"
    retry = True
    do = "Nothing to do unless it lasts: then look at the CA's status page and our network."


class DnsUnavailable(IssuanceUnavailable):
    type = "issuance/dns-unavailable"
    means = "The CA was not asked to look; the certificate in place goes on serving."
    do = "Nothing to do unless it lasts: then look at the resolvers in the settings."


class DnsFailure(IssuanceError):
    type = "issuance/dns"
    retry = True
    means = "The CA was not asked to look; the certificate in place goes on serving."
    do = "Fix the DNS or its settings; the same order is tried again by itself."


class IssuanceUnfinished(IssuanceError):
    type = "issuance/unfinished"
    retry = True
    do = "Nothing to do: the same order is looked at again."


# --- transport -------------------------------------------------------------------------------


class TransportError(RelayError):
    """Args:
    retry_after: seconds to wait before the next try, if the other side said so.
    """

    type = "transport"
    exit_code = 7
    retry = True
    means = "The certificate in place goes on serving."
    do = "Look at the network, the proxy settings and whether the agent runs."

    def __init__(
        self, what: str, *, do: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(what, do=do)
        self.retry_after = retry_after


class MalformedMessage(TransportError):
    type = "transport/malformed-message"
    do = "Run the same release of this software on both sides."


class SignatureMalformed(TransportError):
    type = "transport/signature-malformed"
    do = "Look for a proxy that changes headers, and run the same release on both sides."


class AnswerUnauthenticated(TransportError):
    type = "transport/answer-unauthenticated"
    do = "Something between here and the agent answered in its place: look at the proxy."


class RequestRefused(TransportError):
    """A refusal signed by the agent.

    Args:
        problem_type: the ``type`` member of its problem document (RFC 9457).
    """

    type = "transport/refused"
    do = "The agent was reached and refuses: look at external-agent status there, and at its log."

    def __init__(
        self,
        what: str,
        *,
        do: str | None = None,
        retry_after: float | None = None,
        problem_type: str = "",
    ) -> None:
        super().__init__(what, do=do, retry_after=retry_after)
        self.problem_type = problem_type


class RefusedForNow(RequestRefused):
    """A signed 429 or 5xx: the agent is there and cannot, or does not want to, take it now."""

    type = "transport/refused-for-now"
    do = "Nothing: it is tried again. If it goes on, look at the agent: external-agent status."


class PullerRevoked(RequestRefused):
    type = "transport/puller-revoked"
    retry = False
    do = (
        "To let it pull again: remove signing.key, sealing.key and enrolment.json from its state "
        "directory, and enrol it with a new token; what it learned stays."
    )


# --- bundle ----------------------------------------------------------------------------------


class BundleError(RelayError):
    type = "bundle"
    exit_code = 8
    means = "Nothing was installed; the certificate in place goes on serving."
    do = "The receipt tells the agent; look at external-agent status there."


class MalformedBundle(BundleError):
    type = "bundle/malformed"


class BadSignature(BundleError):
    type = "bundle/bad-signature"


class WrongAgent(BundleError):
    type = "bundle/wrong-agent"


class WrongRecipient(BundleError):
    type = "bundle/wrong-recipient"


class UnknownCertificate(BundleError):
    type = "bundle/unknown-certificate"
    do = "Add a target for it here: internal-puller target add."


class KeyOriginRefused(BundleError):
    type = "bundle/key-origin-refused"
    do = "If keys made by the agent are wanted again, say so on this machine."


class StaleGeneration(BundleError):
    type = "bundle/stale-generation"


class FutureGeneration(BundleError):
    type = "bundle/future-generation"
    do = "Compare the clocks of both machines."


class ConflictingGeneration(BundleError):
    type = "bundle/conflicting-generation"


class OutsideValidity(BundleError):
    type = "bundle/outside-validity"
    do = "Compare the clocks of both machines; an expired bundle is replaced at the next renewal."


class UntrustedChain(BundleError):
    type = "bundle/untrusted-chain"
    do = "Staging or private CA: internal-puller target change NAME --root FILE."


class NameMismatch(BundleError):
    type = "bundle/name-mismatch"


class UnsuitableKey(BundleError):
    type = "bundle/unsuitable-key"
    do = "Let the key be made anew: external-agent renew NAME; run the same release on both sides."


class KeyMismatch(BundleError):
    type = "bundle/key-mismatch"


class SealBroken(BundleError):
    type = "bundle/seal-broken"


# --- install ---------------------------------------------------------------------------------


class InstallError(RelayError):
    type = "install"
    exit_code = 9
    retry = True
    means = "What was in place before is in place."


class StageFailed(InstallError):
    type = "install/stage-failed"
    do = "Look at the target's directory: free space, owner and mode."


class ConfigTestFailed(InstallError):
    type = "install/config-test-failed"
    do = "Run the target's test command by hand and fix the server's configuration."


class ServedMismatch(InstallError):
    type = "install/served-mismatch"
    do = "See which file the server really reads, and that the probe address is that server."


class ServerDied(InstallError):
    type = "install/server-died"
    means = "What was in place before is back, and the server was started again."
    do = (
        "Read the server's log. What was installed together with others is tried alone by the next "
        "pull; what was alone after a day, or at once by: internal-puller pull --retry"
    )


_KEPT = "The new certificate is in place; it is looked at again by itself."


class ReloadFailed(InstallError):
    type = "install/reload-failed"
    means = _KEPT
    do = "Run the target's reload command by hand."


class NotTakenUp(InstallError):
    type = "install/not-taken-up"
    means = _KEPT
    do = "See which file the server really reads, and whether its reload command reloads it."


class NotRunning(InstallError):
    type = "install/not-running"
    means = "The new certificate is in place; the server takes it up when it starts."
    do = "If it was stopped on purpose there is nothing to do."


class ConfigurationBrokenBefore(InstallError):
    type = "install/configuration-already-broken"
    means = "The new certificate is in place; the server was not reloaded."
    do = "Run the target's test command by hand and fix the server's configuration."


class CannotBeSeen(InstallError):
    type = "install/cannot-be-seen"
    means = _KEPT
    do = "Let this machine reach the probe address, or name another: internal-puller target change."


class AnotherServer(InstallError):
    type = "install/another-server"
    means = _KEPT
    do = "Name the probe address of the server that reads these files."


class SeenBefore(InstallError):
    type = "install/seen-before"
    means = "The new certificate is in place; whether this server serves it was not seen."
    do = "Name a probe address of this machine alone."


class NotCausedByCertificate(InstallError):
    type = "install/not-caused-by-certificate"
    means = "The new certificate is in place; without it nothing got better."
    do = "Look at the server now: its configuration and its log."


class WorseAndKept(InstallError):
    type = "install/worse-and-kept"
    means = "The new certificate is in place: the one before has expired, or is about to."
    do = "Look at the server now: its configuration and its log."


class RollbackFailed(InstallError):
    type = "install/rollback-failed"
    exit_code = 12
    means = "What was in place before is back, but the server could not be seen as it was."
    do = "Look at the server now: its configuration, its log, and the target's directory."


class InstallBusy(RelayError):
    type = "install/busy"
    exit_code = 10
    retry = True
    means = "Another pull is at work on this machine; this one did nothing."
    do = "Wait for it to end, or look for a hanging internal-puller."


# --- store -----------------------------------------------------------------------------------


class StoreError(RelayError):
    type = "store"
    exit_code = 11
    retry = True
    means = "Nothing was issued without a durable record."


class StoreUnavailable(StoreError):
    type = "store/unavailable"
    do = "Look at the database: its lock, its disk, its server."


class FenceLost(StoreError):
    type = "store/fence-lost"
    do = "Nothing to do: another worker goes on with this certificate."
