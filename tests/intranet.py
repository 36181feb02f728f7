"""A web server of the intranet: HTTPS with a certificate of its own until there is a better one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

import trustme

from tests.lab.peers import clean_environment
from tests.lab.ports import free_port
from tests.line import ROOT, wait_until

SERVER = ROOT / "deploy" / "demo_story" / "intranet_server.py"


class Intranet:
    """It reads `live`/current at its start and when it is reloaded."""

    def __init__(self, base: Path, live: Path) -> None:
        base.mkdir()
        self.base, self.port = base, free_port()
        own = trustme.CA().issue_cert("old.example.com")
        pem = base / "own.pem"
        pem.write_bytes(own.private_key_and_cert_chain_pem.bytes())
        self.config = base / "server.json"
        self.config.write_text(
            json.dumps(
                {
                    "address": "127.0.0.1",
                    "port": self.port,
                    "certificate": str(live / "current" / "fullchain.pem"),
                    "key": str(live / "current" / "privkey.pem"),
                    "fallback_certificate": str(pem),
                    "fallback_key": str(pem),
                    "pid_file": str(base / "server.pid"),
                }
            )
        )

    def command(self, action: str) -> list[str]:
        return [sys.executable, "-P", str(SERVER), action, str(self.config)]

    def __enter__(self) -> Self:
        variables = clean_environment(PYTHONPATH=str(ROOT))
        self._process = subprocess.Popen(self.command("serve"), env=variables, cwd=self.base)
        wait_until((self.base / "server.pid").exists)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
