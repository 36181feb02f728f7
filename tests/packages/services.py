"""Every server that has a preset, as Debian's own unit runs it; on ports apart, to run at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internal_puller.targets import ProbePoint

NAME = "www.intra.example.com"
PASSWORD_FILE = "/etc/split-horizon-relay/tomcat.password"


@dataclass(frozen=True)
class Service:
    """
    Attributes:
        unit: what starts it.
        probe: where it is seen, which lets all of them be together.
        files: of its configuration; `{tls}` is the directory with the certificate.
        target: what else its target says.
        before: shell commands that make it ready, if any.
    """

    unit: str
    probe: ProbePoint
    files: dict[str, str]
    target: dict[str, Any] = field(default_factory=dict)
    before: str = ""


def _at(port: int, protocol: str = "tls") -> ProbePoint:
    return ProbePoint("127.0.0.1", port, NAME, protocol)


SERVICES = {
    "apache": Service(
        "apache2",
        _at(4431),
        {
            "etc/apache2/ports.conf": "Listen 4431\n",
            "etc/apache2/sites-enabled/000-default.conf": f"""<VirtualHost *:4431>
  ServerName {NAME}
  SSLEngine on
  SSLCertificateFile {{tls}}/fullchain.pem
  SSLCertificateKeyFile {{tls}}/privkey.pem
</VirtualHost>
""",
        },
        before="a2enmod -q ssl",
    ),
    "haproxy": Service(
        "haproxy",
        _at(4432),
        {
            "etc/haproxy/haproxy.cfg": """global
  user haproxy
  group haproxy
  daemon
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend tls
  bind 127.0.0.1:4432 ssl crt {tls}/combined.pem
  http-request return status 200
"""
        },
    ),
    "caddy": Service(
        "caddy",
        _at(4433),
        {
            "etc/caddy/Caddyfile": f"""{{{{
  auto_https off
}}}}
https://{NAME}:4433 {{{{
  tls {{tls}}/fullchain.pem {{tls}}/privkey.pem
  respond "ok"
}}}}
"""
        },
        {"owner": "caddy"},
    ),
    "postfix": Service(
        "postfix",
        _at(25, "smtp"),
        {
            "etc/postfix/main.cf": f"""compatibility_level = 3.6
inet_interfaces = 127.0.0.1
myhostname = {NAME}
smtpd_tls_chain_files = {{tls}}/combined.pem
smtpd_tls_security_level = may
"""
        },
    ),
    "dovecot": Service(
        "dovecot",
        _at(993),
        {
            "etc/dovecot/conf.d/10-ssl.conf": """protocols = imap
ssl = required
ssl_cert = <{tls}/fullchain.pem
ssl_key = <{tls}/privkey.pem
"""
        },
    ),
    "postgresql": Service(
        "postgresql",
        _at(5433, "postgresql"),
        {
            "etc/postgresql/15/relay/conf.d/tls.conf": """ssl = on
ssl_cert_file = '{tls}/fullchain.pem'
ssl_key_file = '{tls}/privkey.pem'
fsync = off
"""
        },
        {"owner": "postgres"},
        before="pg_createcluster --port 5433 --start-conf auto 15 relay -- --no-sync",
    ),
    "tomcat": Service(
        "tomcat10",
        _at(8443),
        {
            "etc/tomcat10/server.xml": """<Server port="-1">
  <Service name="Catalina">
    <Connector port="8443" address="127.0.0.1" SSLEnabled="true" scheme="https" secure="true"
               protocol="org.apache.coyote.http11.Http11NioProtocol">
      <SSLHostConfig>
        <Certificate certificateKeystoreFile="{tls}/bundle.p12"
                     certificateKeystorePassword="changeit" certificateKeystoreType="PKCS12"/>
      </SSLHostConfig>
    </Connector>
    <Engine name="Catalina" defaultHost="localhost"><Host name="localhost"/></Engine>
  </Service>
</Server>
""",
        },
        {"owner": "tomcat", "pkcs12_password_file": Path(PASSWORD_FILE)},
        before=f"umask 077; echo changeit > {PASSWORD_FILE}",
    ),
}
