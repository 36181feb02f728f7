"""What discover reads of real nginx, Apache and HAProxy configurations, and what it proposes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from internal_puller.discovery import apache, haproxy, nginx
from internal_puller.discovery.proposal import propose
from internal_puller.discovery.site import Site
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError
from shared.contract.wire import Grant
from tests.lab.peers import clean_environment, require
from tests.line import ROOT
from tests.unit.internal_puller.install.helpers import NAME, material

pytestmark = pytest.mark.servers
PULLER = (sys.executable, "-m", "internal_puller", "--config")


@pytest.fixture
def pem(tmp_path: Path) -> tuple[Path, Path]:
    chain, key = tmp_path / "old chain.pem", tmp_path / "old.key"
    chain.write_text(material(1).chain_pem)
    key.write_bytes(material(1).key_pem)
    return chain, key


@pytest.fixture
def nginx_conf(tmp_path: Path, pem: tuple[Path, Path]) -> Path:
    chain, key = pem
    sites = tmp_path / "sites"
    sites.mkdir()
    (sites / "wiki.conf").write_text(
        f"""# ssl_certificate /not/this;
server {{
  listen 443 ssl; listen [::]:443 ssl http2;
  server_name wiki.example.com
              "www.wiki.example.com" ~^x\\d+$;
  ssl_certificate "{chain}";
  ssl_certificate_key {key};
  location / {{ return 200 "{{ssl_certificate}}"; }}
}}
"""
    )
    (sites / "plain.conf").write_text("server { listen 80; server_name wiki.example.com; }\n")
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"""events {{}}
pid {tmp_path}/nginx.pid;
http {{
  access_log off;
  ssl_certificate "{chain}";
  ssl_certificate_key {key};
  include sites/*.conf;
  server {{ listen 127.0.0.2:8443 ssl; server_name .apps.example.com; }}
  server {{ listen 443 ssl default_server; server_name _; }}
}}
"""
    )
    return main


def read_nginx(main: Path) -> list[Site]:
    require("nginx")
    return nginx.sites(("nginx", "-T", "-c", str(main)))


def test_nginx(nginx_conf: Path, pem: tuple[Path, Path]) -> None:
    wiki, apps, default = read_nginx(nginx_conf)
    assert wiki.names == ("wiki.example.com", "www.wiki.example.com")
    assert (wiki.certificate.file.name, wiki.certificate.line) == ("wiki.conf", 6)
    assert wiki.certificate.value == str(pem[0]) and wiki.key is not None
    assert (wiki.key.line, wiki.key.value) == (7, str(pem[1]))
    assert (apps.names, apps.ports) == ((".apps.example.com",), (8443,))
    assert apps.certificate.file == nginx_conf, "inherited from the level above"
    assert default.names == ()


def test_a_configuration_that_is_not_good_is_said(nginx_conf: Path) -> None:
    nginx_conf.write_text(nginx_conf.read_text() + "nonsense;\n")
    with pytest.raises(ConfigurationError, match="nonsense"):
        read_nginx(nginx_conf)


def test_apache(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    require("apache2")
    chain, key = pem
    modules = Path("/usr/lib/apache2/modules")
    site = tmp_path / "site.conf"
    site.write_text(
        f"""<VirtualHost 127.0.0.1:8443>
  ServerName\thttps://erp.example.com:443
  ServerAlias erp2.example.com \\
    erp3.example.com
  SSLEngine on
  # SSLCertificateFile /not/this
  SSLCertificateFile\t"{chain}"
  SSLCertificateKeyFile {key}
</VirtualHost>
<VirtualHost 127.0.0.1:8080>
  ServerName plain.example.com
</VirtualHost>
"""
    )
    loads = "".join(
        f"LoadModule {name}_module {modules}/mod_{name}.so\n"
        for name in ("mpm_event", "authz_core", "socache_shmcb", "ssl")
    )
    main = tmp_path / "apache.conf"
    main.write_text(
        f"ServerRoot {tmp_path}\nServerName x.example.com\nPidFile {tmp_path}/pid\n"
        f"ErrorLog {tmp_path}/log\n{loads}Listen 127.0.0.1:8443\nListen 127.0.0.1:8080\n"
        f"Include {site}\n"
    )
    (found,) = apache.sites(("apache2", "-f", str(main), "-t", "-D", "DUMP_VHOSTS"))
    assert found.names == ("erp.example.com", "erp2.example.com", "erp3.example.com")
    assert (found.ports, found.certificate.line, found.certificate.value) == (
        (8443,),
        7,
        str(chain),
    )
    assert found.key is not None and found.key.value == str(key)


def test_haproxy(tmp_path: Path) -> None:
    pair = tmp_path / "pair.pem"
    pair.write_bytes(material(1).key_pem + material(1).chain_pem.encode())
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        f"""global
frontend a
  bind :80
  bind :443 ssl crt {pair} alpn h2  # crt /not/this
  bind [::]:8443,127.0.0.1:9443 ssl crt {tmp_path} crt /nowhere.pem
global
  crt-base {tmp_path}
frontend b
  bind 10.0.0.5:443 ssl crt pair.pem
"""
    )
    one, directory, nowhere, based = haproxy.sites(config)
    assert (based.names, based.points) == ((NAME,), (("10.0.0.5", 443),))
    assert (one.names, one.certificate.line, one.key) == ((NAME,), 4, None)
    assert directory.notes and directory.ports == (8443, 9443)
    assert nowhere.names == ()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        haproxy.sites(tmp_path / "missing.cfg")


def test_what_is_proposed(nginx_conf: Path) -> None:
    wiki, apps, default = propose(
        read_nginx(nginx_conf),
        (),
        (Grant("wiki.example.com", ("wiki.example.com", "www.wiki.example.com")),),
        Path("/etc/split-horizon-relay"),
    )
    assert (wiki.state, wiki.ask) == ("ready", "")
    assert wiki.command == "internal-puller target add wiki.example.com --preset nginx"
    assert [one.new for one in wiki.changes] == [
        "ssl_certificate /etc/split-horizon-relay/tls/wiki.example.com/current/fullchain.pem",
        "ssl_certificate_key /etc/split-horizon-relay/tls/wiki.example.com/current/privkey.pem",
    ]
    assert apps.state == "not granted" and "*.apps.example.com" in apps.ask
    assert "--probe 127.0.0.2:8443/" in apps.command
    assert default.state == "no public name" and not default.command


def test_what_is_ours_already(nginx_conf: Path) -> None:
    site = read_nginx(nginx_conf)[0]
    target = Target(NAME, (NAME,), Path(site.certificate.value).parent)
    assert [one.state for one in propose([site], [target], (), Path("/etc"))] == ["ours"]


def test_a_target_that_is_there_is_not_proposed_again(nginx_conf: Path) -> None:
    """``target add`` would refuse it; another server's is left alone, and this one gets its own."""
    site = read_nginx(nginx_conf)[0]
    granted = [Grant("wiki.example.com", ("wiki.example.com", "www.wiki.example.com"))]
    place = Path("/etc/tls/wiki.example.com")
    target = Target("wiki.example.com", ("wiki.example.com",), place, preset="nginx")
    [lacking] = propose([site], [target], granted, Path("/etc"))
    assert (
        lacking.command == f"internal-puller target change {place} --add-name www.wiki.example.com"
    )
    whole = dataclasses.replace(target, names=granted[0].names)
    [there] = propose([site], [whole], granted, Path("/etc"))
    assert (there.state, there.command) == ("ready", "")
    assert there.changes[0].new == f"ssl_certificate {place}/current/fullchain.pem"
    other = dataclasses.replace(whole, preset="haproxy")
    [beside] = propose([site], [other], granted, Path("/etc"))
    assert beside.command.endswith(f"--preset nginx --directory {place}-nginx")
    assert beside.changes[0].new == f"ssl_certificate {place}-nginx/current/fullchain.pem"


def test_the_command(nginx_conf: Path, tmp_path: Path) -> None:
    require("nginx")
    settings = tmp_path / "puller.toml"
    settings.write_text(f'state_directory = "{tmp_path}/state"\n')

    def discover(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "internal_puller",
                "--config",
                str(settings),
                "discover",
                *words,
            ],
            env=clean_environment(PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    said = discover("nginx", "--config", str(nginx_conf))
    assert said.returncode == 0, said.stderr
    assert "on the VM:  external-agent add wiki.example.com www.wiki.example.com" in said.stdout
    assert "wiki.conf:6" in said.stdout and "  + ssl_certificate /" in said.stdout
    rows = json.loads(discover("nginx", "--config", str(nginx_conf), "--json").stdout)
    assert [row["state"] for row in rows] == ["not granted", "not granted", "no public name"]
    assert discover("iis").returncode == 3
    assert "--config is of one server" in discover("--config", "/x").stderr
    assert discover("haproxy", "--config", "/nonexistent").returncode == 3
