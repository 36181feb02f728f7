"""Sends one message in a process of its own.

The hundred plug-ins of apprise speak to servers of strangers. They are loaded where no key is, and
what hangs is ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

from external_agent.present.alerts.message import Message
from external_agent.present.alerts.receivers import Receiver
from shared.host.public_roots import public_roots_file

SECONDS = 20.0
_FROM_OUR_ENVIRONMENT = ("PATH", "LANG", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Sent:
    """
    Attributes:
        problem: in words fit for a log; empty when the message was accepted.
        details: what apprise said; may hold addresses, and is for the operator's terminal only.
    """

    problem: str = ""
    details: str = ""


class Send(Protocol):
    """Hands a message over; never raises."""

    def __call__(self, receiver: Receiver, message: Message) -> Sent: ...


def send(receiver: Receiver, message: Message, *, seconds: float = SECONDS) -> Sent:
    """Send by apprise, which gets ``seconds``."""
    order = {
        "url": receiver.url,
        "title": message.title,
        "body": message.body,
        "type": message.tone,
    }
    variables = {name: os.environ[name] for name in _FROM_OUR_ENVIRONMENT if name in os.environ}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    variables["REQUESTS_CA_BUNDLE"] = str(public_roots_file())
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "external_agent.present.alerts.apprise_process"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=variables,
        )
    except subprocess.TimeoutExpired:
        return Sent(f"no end within {seconds:.0f} s")
    except OSError as error:
        return Sent(f"no process could be started: {error.strerror}")
    if done.returncode == 0:
        return Sent(details=done.stderr)
    problems = {2: "apprise does not know such a URL", 3: "the server did not take the message"}
    return Sent(problems.get(done.returncode, "apprise failed"), done.stderr)
