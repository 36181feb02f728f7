"""Runs one issuance in a process that ends at a failure point; forks warm, so that each is quick.

Reads one JSON object a line from standard input and answers each with how the run ended.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from external_agent.orders.keymaker import ProcessKeyMaker
from shared.acme.keys import load_account_key
from shared.contract.signing import SigningKey
from tests.agent_world import AgentWorld
from tests.failpoints import KeyMakerWithFailpoints, Killer, with_failpoints


def run(case: dict[str, Any]) -> None:
    kill = Killer(case["name"], case["occurrence"])
    with (
        ProcessKeyMaker() as keys,
        AgentWorld(
            Path(case["directory"]),
            directory_url=case["directory_url"],
            roots=Path(case["roots"]),
            account_key=load_account_key(case["account_key"].encode()),
            signing_key=SigningKey(bytes.fromhex(case["signing_seed"])),
            failpoint=kill,
            key_maker=KeyMakerWithFailpoints(keys, kill),
            wrap=lambda store: with_failpoints(store, kill),
            workers=1,
        ) as world,
    ):
        if case["csr"]:
            with_failpoints(world.store, kill).leave_csr(
                *(case["puller"], case["certificate"], bytes.fromhex(case["csr"])),
                now=world.now(),
            )
        world.scheduler.run_until_idle()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(2, 1)  # standard output is for the answers
                run(json.loads(line))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        print(
            json.dumps({"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}), flush=True
        )


if __name__ == "__main__":
    main()
