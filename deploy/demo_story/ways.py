"""The other ways, one after another: a key made inside, dns-01, dns-persist-01, direct mode."""

from __future__ import annotations

import base64
import json
import shlex
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.demo_story.processes import StoryFailed, free_ports, python
from deploy.demo_story.story import INSIDE, OUTSIDE, SERVER, Story
from deploy.demo_story.visitors import digest, served_leaf


@dataclass(frozen=True)
class Way:
    """One certificate of its own.

    Attributes:
        names: the first is the one that is visited.
        direct: the puller asks the CA itself.
    """

    title: str
    names: tuple[str, ...]
    options: tuple[str, ...]
    direct: bool = False

    @property
    def certificate(self) -> str:
        return self.names[0]

    @property
    def by_standing_record(self) -> bool:
        return "dns-persist-01" in self.options


WAYS = (
    Way(
        "The key is made inside and never leaves: http-01, key by the puller",
        ("csr.example.com",),
        ("--key-origin", "puller"),
    ),
    Way(
        "No port 80, and a wildcard: dns-01 by DNS UPDATE with TSIG",
        ("apps.example.com", "*.apps.example.com"),
        ("--challenge", "dns-01"),
    ),
    Way(
        "One record, set once by a person: dns-persist-01",
        ("persist.example.com",),
        ("--challenge", "dns-persist-01"),
    ),
    Way(
        "Without the agent: direct mode, dns-01",
        ("direct.example.com",),
        ("--challenge", "dns-01"),
        direct=True,
    ),
)


class Ways:
    """Tells them in the world of a story that has been told."""

    def __init__(self, story: Story) -> None:
        self.story, self.screen = story, story.screen
        story.processes.end("puller")  # from here on it is asked by hand

    def tell(self) -> None:
        for way in WAYS:
            self.screen.chapter(way.title)
            self._want(way)
            self._serve(way)
            self._pull(way)
            self._show_custody(way)

    def _want(self, way: Way) -> None:
        if way.by_standing_record:
            self._set_record(way)
        elif "--challenge" not in way.options:  # the CA comes to port 80 of the twin
            self._lab("dns", view="outside", name=way.certificate, type="A", values=[OUTSIDE])
        if way.direct:
            self._begin_direct()
            with self.screen.step(f"internal-puller direct add {way.certificate}"):
                self.story.puller("direct", "add", *way.names, *way.options)
            return
        with self.screen.step(f"external-agent add {shlex.join((*way.names, *way.options))}"):
            said = self.story.agent("add", *way.names, *way.options)
            token = next(word for word in said.split() if word.startswith("shr1_"))
        with self.screen.step("internal-puller enroll: the same keys, one more grant"):
            self.story.puller("enroll", given=token + "\n")

    def _set_record(self, way: Way) -> None:
        with self.screen.step(f"external-agent dns-persist record {way.certificate}"):
            printed = self.story.agent("dns-persist", "record", way.certificate).strip()
        line = printed.splitlines()[-1]
        self.screen.note(line)
        owner, _, text = line.partition(" ")
        with self.screen.step("A person puts it into the zone, once"):
            record = {"view": "outside", "name": owner.rstrip("."), "type": "TXT"}
            self._lab("dns", **record, values=[text.partition("TXT ")[2]])
        self.story.agent("dns-persist", "check", way.certificate)

    def _lab(self, call: str, **members: Any) -> None:
        answer = httpx.post(
            f"{self.story.lab['control_url']}/{call}", json=members, trust_env=False
        )
        if answer.status_code != 200:
            raise StoryFailed(f"The lab refused {call}: {answer.text}")

    def _begin_direct(self) -> None:
        with self.screen.step("internal-puller direct init: an account key of its own"):
            self.story.puller(
                *("direct", "init", "--ca", self.story.lab["directory_url"], "--agree-terms"),
                *("--ca-root", self.story.lab["tls_root"]),
                *("--contact", "mailto:ops@example.com"),
            )
            with (self.story.puller_config.parent / "direct.toml").open("a") as file:
                file.write(self.story.dns01_sections())

    def _serve(self, way: Way) -> None:
        """Start an intranet server for the name, and have the puller install there."""
        story = self.story
        (port,) = free_ports(1, INSIDE)
        live = story.directory / "live" / way.certificate
        config = story.directory / f"{way.certificate}.json"
        fallback = str(story.directory / "self-signed.pem")
        settings = {
            "address": INSIDE,
            "port": port,
            "certificate": str(live / "current" / "fullchain.pem"),
            "key": str(live / "current" / "privkey.pem"),
            "fallback_certificate": fallback,
            "fallback_key": fallback,
            "pid_file": str(story.directory / f"{way.certificate}.pid"),
        }
        config.write_text(json.dumps(settings))
        story.processes.start(way.certificate, *python(str(SERVER), "serve", str(config)))
        pid_file = Path(settings["pid_file"])
        story.processes.wait("The intranet server", lambda: pid_file.exists() or None)
        self._address = INSIDE, port
        commands = {
            what: shlex.join(python(str(SERVER), what, str(config))) for what in ("test", "reload")
        }
        with self.screen.step(f"internal-puller target add {way.certificate}"):
            story.puller(
                *("target", "add", way.certificate, "--directory", str(live)),
                *("--preset", "none", "--format", "fullchain", "--format", "privkey"),
                *("--test-command", commands["test"], "--reload-command", commands["reload"]),
                *("--probe", f"{INSIDE}:{port}/{way.certificate}", "--probe-timeout", "3"),
                *("--root", story.lab["root"]),
            )

    def _pull(self, way: Way) -> None:
        def pulled() -> bool | None:
            self.story.puller("pull", accept=tuple(range(20)))
            installed = self.story.directory / "live" / way.certificate / "current"
            return True if installed.is_symlink() else None

        with self.screen.step("internal-puller pull, until it is there"):
            self.story.processes.wait(f"A certificate for {way.certificate}", pulled)
        served = digest(served_leaf(self._address, way.certificate))
        issued = self.story.issued()
        self.story.leaves.append((way.title, issued, served))
        if issued != served:
            raise StoryFailed(f"{way.certificate}: issued {issued}, but served {served}.")
        self.screen.note(f"issued and served: {served}")

    def _show_custody(self, way: Way) -> None:
        """Say where the key lies, from the agent's own database."""
        if way.direct:
            known = json.loads(self.story.agent("status", "--json"))["direct"]
            (one,) = [each for each in known if each["certificate"] == way.certificate]
            self.screen.note(
                f"the agent knows it by reports only: {one['state']}; no key, no order"
            )
            return
        sealed = sealed_key(self.story.directory / "agent" / "state" / "relay.db", way.certificate)
        if sealed is None:
            self.screen.note(
                "what the agent's database holds: a CSR and a chain, no key in any form"
            )
        else:
            self.screen.note(
                f"what the agent's database holds: the key sealed to this puller, {sealed} octets "
                "that only it can open"
            )


def sealed_key(database: Path, certificate: str) -> int | None:
    """Return the size of the sealed key in the newest bundle; ``None`` if there is none in it."""
    query = "SELECT envelope FROM bundles WHERE certificate = ? ORDER BY generation DESC LIMIT 1"
    with sqlite3.connect(database) as connection:
        (envelope,) = connection.execute(query, (certificate,)).fetchone()
    connection.close()
    manifest = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    sealed = manifest.get("sealed_key")
    return None if sealed is None else len(base64.b64decode(sealed))
