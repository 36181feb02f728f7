"""The targets file: what is written is read again, and nothing else is let through."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target, load_targets, save_targets
from shared.contract.errors import ConfigurationError, LooseFileMode

NAME = "www.intra.example.com"
PLAIN = Target(NAME, (NAME,), Path("/srv/one"))
FULL = Target(
    "_.intra.example.com",
    ("*.intra.example.com", "intra.example.com"),
    Path('/srv/two "quoted" ü\U0001f600'),
    preset="haproxy",
    formats=("fullchain", "combined", "pkcs12"),
    owner="root",
    group="ssl-cert",
    mode=0o640,
    key_mode=0o400,
    test_command=("haproxy", "-c", "-f", "/x y"),
    reload_command=("kill", "$(id)", "\t"),
    command_timeout=5,
    probe=(ProbePoint("127.0.0.1", 443, NAME), ProbePoint("::1", 8443, NAME)),
    probe_timeout=2.5,
    roots=Path("/srv/root.pem"),
    keep=7,
    key_origin="puller",
    pkcs12_password_file=Path("/srv/password"),
    pkcs12_algorithms="legacy",
    combined_order="key-first",
)
COPIED = dataclasses.replace(PLAIN, directory=Path("/srv/copied"), layout="copy")
NOTHING_RUNS = dataclasses.replace(
    PLAIN, directory=Path("/srv/3"), preset="nginx", test_command=(), reload_command=(), probe=()
)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    targets = (PLAIN, FULL, NOTHING_RUNS, COPIED)
    save_targets(path, targets)
    assert load_targets(path) == targets
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    save_targets(path, (FULL,))
    assert load_targets(path) == (FULL,)
    save_targets(path, ())
    assert load_targets(path) == ()
    assert [each.name for each in tmp_path.iterdir()] == ["targets.toml"]


def test_no_file_is_no_targets(tmp_path: Path) -> None:
    assert load_targets(tmp_path / "targets.toml") == ()


def test_comments_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    save_targets(path, (PLAIN,))
    write(path, "# written by hand\n" + path.read_text() + "keep = 5 # because\n")
    (loaded,) = load_targets(path)
    assert loaded.keep == 5
    save_targets(path, (dataclasses.replace(loaded, key_origin="puller"), FULL))
    assert "# written by hand" in path.read_text()
    assert "keep = 5 # because" in path.read_text()
    assert load_targets(path)[0].key_origin == "puller"


BY_HAND = f"""\
# the targets of this machine

# the site
[[target]]  # one
certificate = "{NAME}"
  # what it needs
names = ["{NAME}"]
directory = "/srv/one"
keep = 3   # the default, on purpose
# test_command = ["nginx", "-t"]

# a paragraph between


# the mail server
[[target]]  # two
names = [
    "mail.example.com",  # MX
]
certificate = "mail.example.com"
directory = "/srv/two"
# where it listens
[[target.probe]]
address = "127.0.0.1"
sni = "mail.example.com"

[[ "target" ]]
certificate = "x"
names = ["x.example.com"]
reload_command = ["/bin/sh", "-c", \'\'\'
[[target]]
# not one \'\'\']
directory = "/srv/three"

# the end
"""
NEW = Target(NAME, (NAME,), Path("/srv/new"), probe=(ProbePoint("::1", 443, NAME),))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_other_octets_stay(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "targets.toml"
    by_hand = BY_HAND.replace("\n", ending)
    path.write_bytes(by_hand.encode())
    path.chmod(0o600)
    there = load_targets(path)

    def written(*targets: Target) -> str:
        save_targets(path, targets)
        assert load_targets(path) == targets
        return path.read_bytes().decode()

    assert written(*there) == by_hand
    for _ in range(3):
        added = written(*there, NEW)
        assert added.startswith(by_hand)
        assert added.count("\n") == by_hand.count("\n") + 10
        changed = written(*there, dataclasses.replace(NEW, keep=5))
        assert changed.replace("keep = 5\n", "", 1).startswith(by_hand.replace("keep = 5\n", ""))
        assert written(*there, NEW) == added
        assert written(*there) == by_hand
    one, two, three = there
    for keep in (4, 5):
        assert written(dataclasses.replace(one, keep=keep), two, three) == by_hand.replace(
            "keep = 3 ", f"keep = {keep} "
        )
    by_hand = path.read_bytes().decode()
    one = dataclasses.replace(one, keep=5)
    moved = written(one, dataclasses.replace(two, directory=Path("/srv/moved")), three)
    assert moved == by_hand.replace("/srv/two", "/srv/moved")


def test_comments_stay_where_a_target_goes(tmp_path: Path) -> None:
    path = write(tmp_path / "targets.toml", BY_HAND)
    one, two, three = load_targets(path)
    save_targets(path, (one, three))
    text = path.read_text()
    start, end = BY_HAND.index("[[target]]  # two"), BY_HAND.index('[[ "target" ]]')
    assert text == BY_HAND[:start] + "\n" + BY_HAND[end:]
    save_targets(path, (three,))
    for comment in ("of this machine", "the site", "between", "the mail server", "the end"):
        assert path.read_text().count(comment) == 1
    save_targets(path, ())
    assert load_targets(path) == () and "certificate" not in path.read_text()
    size = path.stat().st_size
    for _ in range(3):
        save_targets(path, (two,))
        save_targets(path, ())
    assert path.stat().st_size == size


def test_a_comment_above_a_target_is_not_of_the_one_before(tmp_path: Path) -> None:
    path = write(tmp_path / "targets.toml", REQUIRED + "# about two\n" + REQUIRED)
    path.write_text(path.read_text().replace("/srv/one", "/srv/0", 1))
    one, two = load_targets(path)
    save_targets(path, (dataclasses.replace(one, keep=5), two))
    assert "keep = 5\n# about two\n[[target]]" in path.read_text()
    save_targets(path, (two,))
    assert path.read_text() == "# about two\n" + REQUIRED


def test_tables_that_are_written_in_one_line(tmp_path: Path) -> None:
    line = f'target = [{{certificate = "{NAME}", names = ["{NAME}"], directory = "/srv/one"}}]\n'
    path = write(tmp_path / "targets.toml", "# ours\n" + line)
    save_targets(path, (*load_targets(path), FULL))
    assert load_targets(path) == (PLAIN, FULL)
    assert "# ours" in path.read_text()


def test_order_is_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    for targets in (
        (PLAIN, FULL),
        (FULL, PLAIN),
        (NOTHING_RUNS, PLAIN, FULL),
        (FULL, NOTHING_RUNS),
    ):
        save_targets(path, targets)
        assert load_targets(path) == targets


REQUIRED = f'[[target]]\ncertificate = "{NAME}"\nnames = ["{NAME}"]\ndirectory = "/srv/one"\n'
WRONG = {
    "reload_comand = []": "unknown key 'reload_comand'; the nearest is 'reload_command'",
    "keep = true": "keep is no whole number",
    "keep = 0": "keep is not between 1 and 100",
    "keep = 2.0": "keep is no whole number",
    "key_mode = 640": "key_mode is no text",
    'key_mode = "0644"': "key_mode 0644 is more than 0640",
    'key_mode = "9"': "no file mode",
    'mode = "0666"': "mode 0666 is more than 0664",
    'preset = "iis"': "no preset 'iis'",
    'preset = ["nginx", 7]': "preset is no text",
    "preset = []": "a list of names, each once",
    'server = "web"': "server goes with test_command",
    'formats = ["jks"]': "'jks' is none of fullchain",
    'formats = ["pkcs12"]': "needs pkcs12_password_file",
    'reload_command = "nginx -s reload"': "reload_command is no list",
    'reload_command = ["a\\u0000b"]': "no list of arguments",
    'test_command = [""]': "no list of arguments",
    "command_timeout = 0": "not between 0 and 3600",
    "command_timeout = nan": "not between 0 and 3600",
    "probe_timeout = inf": "not between 0 and 3600",
    'roots = "root.pem"': "no absolute path",
    'probe = ["127.0.0.1:443"]': "no list of tables",
    'probe = [{address = "127.0.0.1", port = 443, sni = "*.example.com"}]': "no name to probe",
    'probe = [{address = "127.0.0.1", port = 0, sni = "a.example.com"}]': "no TCP port",
    'probe = [{address = "127.0.0.1", sni = "a.example.com", name = "x"}]': "unknown key 'name'",
    'formats = ["fullchain", "chain"]': "no certificate with its key",
    'formats = ["privkey"]': "no certificate with its key",
    'ssh = "root@host:99999"': "no port between 1 and 65535",
    'ssh = "root@host:0"': "no port between 1 and 65535",
    'ssh = "root@a..b"': "is not USER@HOST",
    'owner = "a b"': "no account name",
    'key_origin = "agent"': "'agent' is none of any, puller",
    'formats = ["fulchain"]': "the nearest is 'fullchain'",
    'formats = ["cert-der", "combined", "pkcs-12"]': "the nearest is 'pkcs12'",
    'formats = ["privkey-der"]': "no certificate with its key",
    'layout = "link2"': "layout 'link2' is none of link, copy; the nearest is 'link'",
    "layout = true": "layout is no text",
    'combined_order = "key first"': "the nearest is 'key-first'",
    'pkcs12_algorithms = "legacy"': "pkcs12_algorithms goes with pkcs12_password_file",
    'pkcs12_algorithms = "des"': "is none of modern, legacy",
    'layout = "copy"\nformats = ["fullchain", "privkey"]': "takes the format combined alone",
    'layout = "copy"\npkcs12_password_file = "/p"': "layout copy makes no bundle.p12",
    'layout = "copy"\nowner = "root"': "layout copy goes with group, not with owner",
    'layout = "copy"\nssh = "root@host"': "layout copy is for this machine",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_setting_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "targets.toml", REQUIRED + line + "\n")
    with pytest.raises(ConfigurationError) as caught:
        load_targets(path)
    assert WRONG[line] in caught.value.what


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("/srv/one", "one", "no absolute path"),
        ("/srv/one", "/srv/../etc", "no absolute path without"),
        ("/srv/one", "/", "root of the file system"),
        ("/srv/one", "/srv/\\u001b[31m", "no text"),
        (f'["{NAME}"]', "[]", "names is empty"),
        (f'["{NAME}"]', '["WWW.example.com"]', "no DNS name"),
        (f'["{NAME}"]', '["a.*.example.com"]', "no DNS name"),
        (f'["{NAME}"]', '["a.example.com\\n"]', "no DNS name"),
        (f'certificate = "{NAME}"', 'certificate = "../etc"', "not a certificate id"),
        (f'certificate = "{NAME}"', "", "certificate is missing"),
        ("[[target]]", "[target]", "[[target]]"),
        ("[[target]]", "[[targets]]", "unknown key 'targets'; the nearest is 'target'"),
        ("[[target]]", "[[target", "no TOML"),
    ],
)
def test_wrong_value_is_named(tmp_path: Path, old: str, new: str, what: str) -> None:
    path = write(tmp_path / "targets.toml", REQUIRED.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        load_targets(path)
    assert what in caught.value.what


def test_two_targets_in_one_directory_of_another_machine(tmp_path: Path) -> None:
    def target(directory: str, **changes: object) -> Target:
        there = {"ssh": "root@app.example.com", "remote_directory": Path("/srv/tls")}
        return Target(NAME, (NAME,), Path(directory), **(there | changes))  # type: ignore[arg-type]

    path = tmp_path / "targets.toml"
    apart = [
        target("/srv/one"),
        target("/srv/two", remote_directory=Path("/srv/more")),
        target("/srv/three", ssh="root@app.example.com:2222"),
        target("/srv/tls", ssh=None, remote_directory=None),
    ]
    save_targets(path, apart)
    with pytest.raises(ConfigurationError, match=r"/srv/tls at app\.example\.com"):
        save_targets(path, [*apart, target("/srv/four", ssh="deploy@APP.example.com:22")])


def test_two_targets_in_one_directory(tmp_path: Path) -> None:
    path = write(tmp_path / "targets.toml", REQUIRED * 2)
    with pytest.raises(ConfigurationError, match="Two targets have the directory /srv/one"):
        load_targets(path)
    with pytest.raises(ConfigurationError, match="Two targets"):
        save_targets(tmp_path / "new.toml", (PLAIN, PLAIN))
    assert not (tmp_path / "new.toml").exists()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_that_others_can_change_names_no_commands(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "targets.toml", REQUIRED)
    path.chmod(mode)
    with pytest.raises(LooseFileMode):
        load_targets(path)


def test_not_text_and_too_large(tmp_path: Path) -> None:
    path = write(tmp_path / "targets.toml", "")
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="no UTF-8"):
        load_targets(path)
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigurationError, match="larger"):
        load_targets(path)


def test_mode_of_the_key_follows_the_group() -> None:
    assert PLAIN.private_mode == 0o600
    assert dataclasses.replace(PLAIN, group="ssl-cert").private_mode == 0o640
    assert FULL.private_mode == 0o400


def test_reading_needs_only_the_standard_library(tmp_path: Path) -> None:
    """The quiet path of ``pull``: no parser, no cryptography, no terminal library."""
    path = tmp_path / "targets.toml"
    save_targets(path, (PLAIN, FULL))
    code = """
import sys
from pathlib import Path
from internal_puller.install import layout, lock, notes
from internal_puller.settings.targets import load_targets
targets = load_targets(Path(sys.argv[1]))
assert len(targets) == 2
assert layout.active_generation(targets[0]) is None
assert not notes.has_note(Path(sys.argv[1]).parent)
assert not layout.set_aside(targets[0])
ours = {"internal_puller", "shared"}
print(sorted({m.partition(".")[0] for m in sys.modules} - set(sys.stdlib_module_names) - ours))
"""
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['__main__']"


SHARED = """
[[target]]
certificate = "a"
names = ["a.example.com"]
directory = "/srv/a"
server = "mail"
test_command = ["t"]
reload_command = ["r"]

[[target]]
certificate = "b"
names = ["b.example.com"]
directory = "/srv/b"
server = "mail"
test_command = ["t"]
reload_command = ["r"]
"""


def test_one_server_has_one_way_to_reload_it(tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(SHARED)
    assert {one.server for one in load_targets(file)} == {"mail"}
    file.write_text(SHARED + 'ssh = "relay@10.0.0.7"\n')  # another machine: another server
    load_targets(file)
    first, second = SHARED.strip().split("\n\n")
    there = f'{first}\nssh = "a@b"\n{second}\nssh = "a@b:22"\n'
    file.write_text(there.replace('["r"]', '["s"]', 1))
    with pytest.raises(ConfigurationError, match="has other commands"):
        load_targets(file)
    file.write_text(SHARED + 'preset = "nginx"\n')  # what else it gives is each target's own
    load_targets(file)
    file.write_text(SHARED + 'unit = "x.service"\n')
    with pytest.raises(ConfigurationError, match="server 'mail' has other commands in"):
        load_targets(file)
    file.write_text(SHARED.replace('reload_command = ["r"]', 'reload_command = ["s"]', 1))
    with pytest.raises(ConfigurationError, match="Target b: the server 'mail' has other commands"):
        load_targets(file)


def test_several_presets_are_written_as_a_list(tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    both = Target("a", ("a.example.com",), Path("/srv/a"), preset=("nginx", "postfix"))
    one = Target("b", ("b.example.com",), Path("/srv/b"), preset=("nginx",))
    save_targets(file, [both, one])
    assert 'preset = ["nginx", "postfix"]' in file.read_text()
    assert 'preset = "nginx"' in file.read_text()
    assert load_targets(file) == (both, one)
    assert both.all_formats == ("fullchain", "chain", "cert", "privkey", "combined")
