"""The configuration snippets under deploy/, read by the real servers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

pytestmark = pytest.mark.servers

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TARGET = "/etc/split-horizon-relay/tls/www.intra.example.com"
APACHE_MODULES = Path("/usr/lib/apache2/modules")


def program(name: str, package: str) -> str:
    found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"{name} is missing (Debian: {package})")
    return found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A target's directory as the puller leaves it."""
    current = tmp_path / "www" / "current"
    current.mkdir(parents=True)
    leaf = trustme.CA().issue_cert("www.intra.example.com")
    key = leaf.private_key_pem.bytes()
    chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
    (current / "fullchain.pem").write_bytes(chain)
    (current / "privkey.pem").write_bytes(key)
    (current / "combined.pem").write_bytes(chain + key)
    return current.parent


def snippet(name: str, target: Path) -> str:
    """The text of a snippet with the directory of `target` in it."""
    return (DEPLOY / name).read_text().replace(TARGET, str(target))


def accepts(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def check_nginx(tmp_path: Path, target: Path) -> None:
    nginx = program("nginx", "nginx-light")
    (tmp_path / "challenge.conf").write_text(snippet("nginx/challenge.conf", target))
    server = snippet("nginx/intranet-server.conf", target)
    # No port of this machine is touched: nginx binds what it tests.
    server = server.replace("listen 443 ssl;", f"listen unix:{tmp_path}/https ssl;")
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n"
        f"server {{ listen unix:{tmp_path}/http; include {tmp_path}/challenge.conf; }}\n"
        f"{server}\n}}\n"
    )
    accepts([nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(configuration)], tmp_path)


def check_apache(tmp_path: Path, target: Path) -> None:
    apache = program("apache2", "apache2")
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http", "ssl", "socache_shmcb")
    configuration = tmp_path / "apache.conf"
    configuration.write_text(
        "\n".join(f"LoadModule {m}_module {APACHE_MODULES}/mod_{m}.so" for m in modules)
        + f"\nServerName localhost\nPidFile {tmp_path}/pid\nErrorLog {tmp_path}/log\n"
        + "Listen 127.0.0.1:1\n<VirtualHost *:80>\n"
        + snippet("apache/challenge.conf", target)
        + "</VirtualHost>\n"
        + snippet("apache/intranet-server.conf", target)
    )
    accepts([apache, "-t", "-f", str(configuration)], tmp_path)


def check_caddy(tmp_path: Path, target: Path) -> None:
    caddy = program("caddy", "caddy")
    for name in ("challenge", "intranet-server"):
        configuration = tmp_path / f"{name}.Caddyfile"
        configuration.write_text(snippet(f"caddy/{name}.Caddyfile", target))
        accepts(
            [caddy, "validate", "--adapter", "caddyfile", "--config", str(configuration)], tmp_path
        )


def check_haproxy(tmp_path: Path, target: Path) -> None:
    haproxy = program("haproxy", "haproxy")
    for name in ("challenge", "intranet-server"):
        configuration = tmp_path / f"{name}.cfg"
        configuration.write_text(snippet(f"haproxy/{name}.cfg", target))
        # -dW: a warning is a fault of the snippet
        accepts([haproxy, "-dW", "-c", "-f", str(configuration)], tmp_path)


@pytest.mark.parametrize(
    "check", [check_nginx, check_apache, check_caddy, check_haproxy], ids=lambda f: f.__name__[6:]
)
def test_the_server_accepts_our_snippets(
    check: Callable[[Path, Path], None],
    tmp_path: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    check(tmp_path, target)
