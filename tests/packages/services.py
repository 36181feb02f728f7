"""Servers that have a preset, as Debian's own units run them, on ports apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from internal_puller.settings.probe_point import ProbePoint

NAME = "www.intra.example.com"


@dataclass(frozen=True)
class Service:
    """
    Attributes:
        unit: what starts it.
        probe: where it is seen, which lets all of them be together.
        files: of its configuration; `{tls}` is the directory with the certificate.
        target: what else its target says.
        before: shell commands that make it ready, if any; `{tls}` as in files.
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
    "openldap": Service(
        "slapd",
        _at(636),
        {
            "etc/default/slapd": """SLAPD_USER=openldap
SLAPD_GROUP=openldap
SLAPD_SERVICES="ldaps://127.0.0.1:636/"
"""
        },
        {"owner": "openldap"},
        """slapmodify -n 0 -F /etc/ldap/slapd.d <<END
dn: cn=config
changetype: modify
add: olcTLSCertificateFile
olcTLSCertificateFile: {tls}/fullchain.pem
-
add: olcTLSCertificateKeyFile
olcTLSCertificateKeyFile: {tls}/privkey.pem
END
chown -R openldap: /etc/ldap/slapd.d""",
    ),
    "vsftpd": Service(
        "vsftpd",
        _at(990),
        {
            "etc/vsftpd.conf": """listen=YES
listen_address=127.0.0.1
listen_port=990
ssl_enable=YES
implicit_ssl=YES
rsa_cert_file={tls}/fullchain.pem
rsa_private_key_file={tls}/privkey.pem
"""
        },
    ),
    "mosquitto": Service(
        "mosquitto",
        _at(8883),
        {
            "etc/mosquitto/conf.d/tls.conf": """listener 8883 127.0.0.1
certfile {tls}/fullchain.pem
keyfile {tls}/privkey.pem
"""
        },
        {"owner": "mosquitto"},
    ),
    "cockpit": Service(
        "cockpit",
        _at(9090),
        {},
        before="""mkdir -p /etc/cockpit/ws-certs.d
ln -s {tls}/fullchain.pem /etc/cockpit/ws-certs.d/50-relay.cert
ln -s {tls}/privkey.pem /etc/cockpit/ws-certs.d/50-relay.key""",
    ),
    "mariadb": Service(
        "mariadb",
        _at(3306, "mysql"),
        {
            "etc/mysql/mariadb.conf.d/99-tls.cnf": """[mariadbd]
bind_address = 127.0.0.1
ssl_cert = {tls}/fullchain.pem
ssl_key = {tls}/privkey.pem
"""
        },
        {"owner": "mysql"},
    ),
    "prosody": Service(
        "prosody",
        _at(5222, "xmpp"),
        {
            "etc/prosody/conf.d/tls.cfg.lua": f"""VirtualHost "{NAME}"
  ssl = {{{{ certificate = "{{tls}}/fullchain.pem"; key = "{{tls}}/privkey.pem"; }}}}
"""
        },
        {"owner": "prosody"},
    ),
}
