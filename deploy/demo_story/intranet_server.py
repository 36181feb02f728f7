"""A small HTTPS server that stands for the intranet server: it reloads its certificate on HUP.

    intranet_server.py serve CONFIG
    intranet_server.py test CONFIG
    intranet_server.py reload CONFIG

CONFIG is JSON: ``address``, ``port``, ``certificate`` and ``key`` (paths, read at start and at
each reload), ``fallback_certificate`` and ``fallback_key`` (served while the others are not there
yet), ``pid_file``. Connections that are open live on through a reload, as with nginx.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any


def read(config: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(config.read_text())
    return settings


def load(context: ssl.SSLContext, settings: dict[str, Any]) -> None:
    """Load the pair that CONFIG names, or the fallback before there is one."""
    certificate, key = settings["certificate"], settings["key"]
    if not Path(certificate).exists():
        certificate, key = settings["fallback_certificate"], settings["fallback_key"]
    context.load_cert_chain(certificate, key)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request on one connection until the client closes it."""
    body = b"Hello from the intranet.\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(head + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(config: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    settings = read(config)
    load(context, settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def reload() -> None:
        try:
            load(context, read(config))
        except (OSError, ssl.SSLError, ValueError) as error:
            print(f"reload failed, the old certificate stays: {error}", file=sys.stderr)

    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(answer, settings["address"], settings["port"], ssl=context)
    async with server:
        await asyncio.to_thread(Path(settings["pid_file"]).write_text, str(os.getpid()))
        await stop.wait()


def main() -> int:
    action, config = sys.argv[1], Path(sys.argv[2])
    try:
        if action == "serve":
            asyncio.run(serve(config))
        elif action == "test":
            load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), read(config))
        else:
            os.kill(int(Path(read(config)["pid_file"]).read_text()), signal.SIGHUP)
    except (OSError, ssl.SSLError, ValueError, KeyError) as error:
        print(f"{action} failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
