"""Tables for people: drawn on a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.present.wording import reason
from shared.acme.dns_persist_text import ending
from shared.contract.plain_text import one_line
from shared.host.terminal import draw, emit, is_terminal

_STYLES = {
    "served": "green",
    "not served": "bold red",
    "installed": "yellow",
    "issued": "yellow",
    "active": "green",
    "yes": "green",
    "failing": "red",
    "expired": "bold red",
    "revoked": "red",
    "NO": "bold red",
    "ok": "green",
    "warning": "bold yellow",
    "critical": "bold red",
    "suspended": "yellow",
    "issuing": "yellow",
    "wanted": "yellow",
}


def moment(at: int | None) -> str:
    """Return unix seconds as UTC text."""
    if not at:
        return "never"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def distance(at: int, now: int) -> str:
    """Return ``in 12 d`` or ``3 min ago``."""
    seconds = abs(at - now)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            text = f"{seconds // size} {unit}"
            break
    else:
        text = f"{seconds} s"
    return f"in {text}" if at > now else f"{text} ago"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: a table on a terminal, else tab-separated lines under a heading."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    if not is_terminal():
        emit("\t".join(columns))
        for row in rows:
            emit("\t".join(row))
        return
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    draw(drawn)


def show_status(view: dict[str, Any]) -> None:
    """Print what ``status`` knows; ``view`` is from ``status_view``."""
    if not (view["certificates"] or view["direct"] or view["relay"]):
        emit("No certificate is wanted yet. Add one: external-agent add NAME")
        return
    for one in view["certificates"]:
        _show_certificate(one, view["now"])
    if view["relay"]:
        _show_certificate(view["relay"], view["now"])
    for one in view["direct"]:
        _show_direct(one, view["now"])


def _show_certificate(one: dict[str, Any], now: int) -> None:
    rows = [
        *_concerns(one["concerns"]),
        ("wanted", ", ".join(one["names"])),
        ("", f"{_key(one)}, {one['challenge']}"),
        *(("", _ca(ca, now)) for ca in one["cas"]),
        ("issued", _issued(one["issued"], now)),
    ]
    if one["attempt"]:
        attempt = one["attempt"]
        rows.append(("order", f"generation {attempt['generation']}: {attempt['state']}"))
    if one["csr"]:
        rows.append(("next CSR", _csr(one["csr"], now)))
    if one["waits_for"]:
        rows.append(("waits for", one["waits_for"]))
    renewal = one["next_renewal"]
    soon = "then" if one["waits_for"] else "now"
    when = f"{moment(renewal['at'])} ({distance(renewal['at'], now)})" if renewal["at"] else soon
    rows.append(("next renewal", f"{when}: {renewal['why']}"))
    rows += _window(renewal["window"], now)
    rows.append(("last error", _last_error(one, now)))
    rows += [_persist_record(record, now) for record in one["persist_records"]]
    for delivery in one["pullers"]:
        rows += _delivery(delivery, now)
    if one["certificate"] == RELAY_CERTIFICATE:
        rows.append(("", "the relay's own: it serves with it, and no puller gets it"))
    elif not one["pullers"]:
        rows.append(("pullers", "none is enrolled"))
    _print_block(f"{one['certificate']}", one["state"], rows)


def _concerns(concerns: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Say first what needs somebody, and what to do; what is merely on its way is said below."""
    for concern in concerns:
        if concern["severity"] in ("warning", "critical"):
            yield (concern["severity"], concern["what"])
            yield ("", f"to do: {concern['do']}")


def _key(one: dict[str, Any]) -> str:
    if one["key_origin"] == "puller":
        return "key made by the puller"
    return f"key made by the agent, {one['key_algorithm']}"


def _csr(csr: dict[str, Any], now: int) -> str:
    if csr["waits"]:
        return f"is here, left {distance(csr['received_at'], now)}"
    since = f", awaited since {moment(csr['awaited_since'])}" if csr["awaited_since"] else ""
    return f"not here yet{since}"


def _persist_record(record: dict[str, Any], now: int) -> tuple[str, str]:
    """Say whether a dns-persist-01 record stood at the last look, and count its end down."""
    found = record["verdict"] if record["verdict"] == "good" else f"NO: {record['what']}"
    looked = f"looked at {distance(record['looked_at'], now)}"
    return ("TXT record", f"{record['name']}: {found}{ending(record['until'], now)}; {looked}")


def _ca(ca: dict[str, Any], now: int) -> str:
    """Say which CA is asked next, and what stands against the others."""
    text = str(ca["directory"])
    if not ca["problem"]:
        return text
    left_alone = ca["left_alone_until"] > now and not ca["next"]
    until = f", left alone until {moment(ca['left_alone_until'])}" if left_alone else ""
    return f"{text}: failed {ca['failures']} times in a row{until}: {ca['problem']}"


def _revoked(issued: dict[str, Any]) -> str:
    if issued["revoked_at"] is None:
        return ""
    return f", REVOKED {moment(issued['revoked_at'])} ({issued['revoked_reason']})"


def _issued(issued: dict[str, Any] | None, now: int) -> str:
    if issued is None:
        return "nothing yet"
    return (
        f"generation {issued['generation']}, expires {moment(issued['not_after'])} "
        f"({distance(issued['not_after'], now)})" + _revoked(issued)
    )


def _window(window: dict[str, Any] | None, now: int) -> list[tuple[str, str]]:
    """Say what the CA suggests (RFC 9773), why, and when it is asked again."""
    if window is None:
        return []
    rows = []
    if window["start"] is not None:
        begin, end = moment(window["start"]), moment(window["end"])
        rows.append(("CA suggests", f"{begin} to {end}; chosen: {moment(window['chosen'])}"))
    if window["explanation_url"]:
        rows.append(("", f"explained at {window['explanation_url']}"))
    if window["problem"]:
        rows.append(("", window["problem"]))
    if window["looked_at"] is not None:
        again = distance(window["next_look"], now)
        asked = f"asked {distance(window['looked_at'], now)}, asked again {again}"
        rows.append(("" if rows else "CA suggests", asked))
    return rows


def _last_error(one: dict[str, Any], now: int) -> str:
    error = one["last_error"]
    if error is None:
        return "none"
    return f"{error['what']} ({distance(error['at'], now)}; {one['failures']} in a row)"


def _delivery(delivery: dict[str, Any], now: int) -> list[tuple[str, str]]:
    seen = delivery["last_seen_at"]
    seen_text = f"seen {distance(seen, now)}" if seen else "not seen yet"
    rows = [
        (
            "puller",
            f"{delivery['host']} ({delivery['puller'][:12]}), {delivery['status']}, {seen_text}",
        )
    ]
    for fact in ("pulled", "installed"):
        generation, at = delivery[fact]["generation"], delivery[fact]["at"]
        text = f"generation {generation}, {moment(at)}" if generation else "nothing yet"
        rows.append((f"  {fact}", text))
    rows.append(("  served", _served(delivery["served"], now)))
    receipt = delivery["last_receipt"]
    if receipt and receipt["outcome"] == "removed":
        rows.append(("  target", f"removed on that machine, {moment(receipt['at'])}"))
    elif receipt:
        rows += _trouble(receipt)
    return rows


def _trouble(told: dict[str, Any]) -> list[tuple[str, str]]:
    """What a machine said last, unless all went well; what is in place there has not failed."""
    if told["outcome"] == "installed" and told["error"] == "none":
        return []
    outcome = "" if told["outcome"] == "installed" else f"{told['outcome']}: "
    return [("  trouble", f"{outcome}{reason(told['error'])}, {moment(told['at'])}")]


def _served(served: dict[str, Any], now: int) -> str:
    when = f", probed {distance(served['at'], now)}" if served["at"] else ""
    leaves = ", ".join(leaf["leaf_sha256"][:16] for leaf in served["leaves"])
    if served["matches"] is None:
        return f"not known: {leaves} seen{when}" if leaves else "not known: nothing seen"
    if served["matches"]:
        return f"yes: the issued certificate{when}"
    return f"NO: another certificate ({leaves}){when}" if leaves else f"NO: no certificate{when}"


def _show_direct(one: dict[str, Any], now: int) -> None:
    generation = f"generation {one['generation']}, expires {moment(one['not_after'])}"
    rows = [
        *_concerns(one["concerns"]),
        ("wanted", ", ".join(one["names"])),
        ("", "direct: its puller asks the CA itself; this agent issues nothing"),
        ("puller", f"{one['host']} ({one['puller'][:12]}), {one['puller_status']}"),
        ("installed", generation if one["generation"] else "nothing yet"),
        ("  served", _served({**one["served"], "at": one["received_at"]}, now)),
        ("next renewal", moment(one["next_renewal"])),
    ]
    rows += _trouble(one)
    _print_block(one["certificate"], one["state"], rows)


def _print_block(title: str, state: str, rows: Sequence[tuple[str, str]]) -> None:
    rows = [(name, one_line(value)) for name, value in rows]
    if not is_terminal():
        emit(f"{title}: {state}")
        for name, value in rows:
            emit(f"  {name:<14}{value}")
        return
    from rich.table import Table
    from rich.text import Text

    heading = Text.assemble((title, "bold"), "  ", (state, _STYLES.get(state, "")))
    grid = Table(title=heading, title_justify="left", show_header=False, expand=False)
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        style = next((_STYLES[key] for key in ("NO", "yes") if value.startswith(key)), "")
        grid.add_row(name, Text(value, style=style))
    draw(grid)


def show_pullers(rows: Sequence[dict[str, Any]], now: int) -> None:
    """Print the enrolled pullers."""
    table(
        "Pullers",
        ("id", "host", "status", "seen", "enrolled", "certificates"),
        [
            (
                row["id"][:12],
                row["host"],
                row["status"],
                distance(row["last_seen_at"], now) if row["last_seen_at"] else "never",
                moment(row["enrolled_at"]),
                ", ".join(row["certificates"]),
            )
            for row in rows
        ],
    )


def show_events(rows: Sequence[dict[str, Any]]) -> None:
    """Print the audit trail."""
    table(
        "Events",
        ("seq", "at", "kind", "actor", "certificate", "puller", "details"),
        [
            (
                str(row["seq"]),
                moment(row["at"]),
                row["kind"],
                row["actor"],
                row["certificate"] or "-",
                (row["puller"] or "-")[:12],
                "; ".join(f"{key}: {_detail(one)}" for key, one in sorted(row["details"].items())),
            )
            for row in rows
        ],
    )


def _detail(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
