"""Reads one message as JSON from standard input and hands it to apprise; see ``sending``."""

from __future__ import annotations

import json
import logging
import sys

import apprise

UNKNOWN_URL, REFUSED = 2, 3


def main() -> int:
    """Return 0 when it was accepted, ``UNKNOWN_URL`` or ``REFUSED``."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    order = json.load(sys.stdin)
    asset = apprise.AppriseAsset(
        app_id="split-horizon-relay",
        app_desc="split-horizon-relay",
        storage_mode=apprise.PersistentStoreMode.MEMORY,  # nothing is left on the disk
    )
    service = apprise.Apprise(asset=asset)
    if not service.add(order["url"]):
        return UNKNOWN_URL
    sent = service.notify(
        body=order["body"],
        title=order["title"],
        notify_type=apprise.NotifyType(order["type"]),
        body_format=apprise.NotifyFormat.TEXT,
    )
    return 0 if sent else REFUSED


if __name__ == "__main__":
    sys.exit(main())
