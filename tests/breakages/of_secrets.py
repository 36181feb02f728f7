"""Promises about keys and other secrets at rest (1, 15, 22, 24)."""

from __future__ import annotations

from typing import Final

from tests.breakages.model import Breakage

BREAKAGES: Final = (
    Breakage(
        1,
        "the process that makes keys may dump its memory",
        "external_agent/orders/keymaker_process.py",
        "    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n",
        "",
        "test_no_core_dump_and_nobody_left_over",
    ),
    Breakage(
        1,
        "others may read the memory where keys are made",
        "external_agent/orders/keymaker_process.py",
        "prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)",
        "prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)",
        "test_nobody_reads_the_memory_of_what_makes_keys",
    ),
    Breakage(
        1,
        "the process that made a key lives on",
        "external_agent/orders/keymaker_process.py",
        "    finally:\n        os._exit(0)\n",
        "    finally:\n        signal.pause()\n",
        "test_no_core_dump_and_nobody_left_over",
    ),
    Breakage(
        1,
        "the long-lived process makes the keys itself",
        "external_agent/orders/keymaker_process.py",
        "        if os.fork() == 0:\n"
        "            control.close()\n"
        "            _child(descriptors[0])\n"
        "        os.close(descriptors[0])\n",
        "        with socket.socket(fileno=descriptors[0]) as answer:\n"
        "            answer.sendall(_answer(_read(answer)).encode())\n",
        "test_each_key_has_a_process_of_its_own",
    ),
    Breakage(
        15,
        "keys are logged like any object",
        "external_agent/settings/logs.py",
        "    if isinstance(value, _SECRET_TYPES) or depth > _MAX_DEPTH:\n",
        "    if depth > _MAX_DEPTH:\n",
        "test_secrets_are_redacted",
    ),
    Breakage(
        15,
        "tokens and PEM keys in a text are logged",
        "external_agent/settings/logs.py",
        "_SECRET_TEXT.sub(REDACTED, value)",
        "value",
        "test_secrets_are_redacted",
    ),
    Breakage(
        15,
        "what libraries log is not redacted",
        "external_agent/settings/logs.py",
        "        redact_event,\n    ]\n",
        "    ]\n",
        "test_secrets_are_redacted",
    ),
    Breakage(
        15,
        "commands get our own environment",
        "shared/host/commands.py",
        'return {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", **extra}',
        'return {**os.environ, "PATH": SEARCH_PATH, "LANG": "C.UTF-8", **extra}',
        "test_environment_is_fixed",
    ),
    Breakage(
        22,
        "the agent's keys are born readable",
        "external_agent/settings/keys.py",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)",
        "test_secrets_are_born_private",
    ),
    Breakage(
        22,
        "the puller's keys are born readable",
        "shared/host/whole_file.py",
        "descriptor = os.open(temporary, _NEW, 0o600, dir_fd=directory)",
        "descriptor = os.open(temporary, _NEW, 0o644, dir_fd=directory)",
        "test_secrets_are_born_private",
    ),
    Breakage(
        22,
        "installed keys are born readable",
        "internal_puller/install/durable.py",
        "descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=self._fd)",
        "descriptor = os.open(name, _NEW_FILE, 0o644, dir_fd=self._fd)",
        "test_key_is_secret_from_birth",
    ),
    Breakage(
        22,
        "the umask decides on the puller's files",
        "shared/host/whole_file.py",
        "            os.fchmod(descriptor, mode)\n",
        "",
        "test_private_from_birth_whatever_the_umask",
    ),
    Breakage(
        22,
        "the agent reads a key that others may read",
        "external_agent/settings/keys.py",
        'find_trusted(path, "key file", mask=SECRET)',
        'find_trusted(path, "key file")',
        "test_loose_files_are_not_read",
    ),
    Breakage(
        22,
        "the puller reads a key that others may read",
        "internal_puller/state/files.py",
        "        _check_owner(path, status)\n        with os.fdopen",
        "        with os.fdopen",
        "test_loose_file",
    ),
    Breakage(
        22,
        "directories of targets are opened through links",
        "internal_puller/install/durable.py",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        "test_links_put_in_the_way_redirect_nothing",
    ),
    Breakage(
        24,
        "a token enrols with any agent that answers",
        "internal_puller/sources/agent/client.py",
        "        self._authenticate(answer, presented[REQUEST_LABEL].signature)\n",
        "",
        "test_stolen_database",
    ),
    Breakage(
        24,
        "another agent's token replaces the one that is pinned",
        "internal_puller/sources/agent/enrolment.py",
        "    if earlier is not None and earlier.agent != token.agent and not change_agent:\n",
        "    if earlier is None and change_agent:\n",
        "test_floor_survives_another_agent",
    ),
    Breakage(
        24,
        "an agent makes the keys that it lacks",
        "external_agent/settings/keys.py",
        "    seed = read_secret(directory / SIGNING_KEY_FILE)\n",
        "    if not (directory / SIGNING_KEY_FILE).exists():\n"
        "        write_secret(directory / SIGNING_KEY_FILE, secrets.token_bytes(SEED_SIZE))\n"
        "    seed = read_secret(directory / SIGNING_KEY_FILE)\n",
        "test_an_agent_without_its_keys_does_not_start",
    ),
)
