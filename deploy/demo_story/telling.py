"""Tells the story: the main one, and where asked the other ways."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from deploy.demo_story.processes import Processes, StoryFailed
from deploy.demo_story.screen import Screen
from deploy.demo_story.story import Story
from deploy.demo_story.ways import Ways


def tell(story: Story, *, every_way: bool) -> None:
    story.world()
    story.outside()
    story.inside()
    story.first_certificate()
    story.renewal()
    story.not_taken_up()
    if every_way:
        Ways(story).tell()
    story.end()


def main() -> int:
    keep, every_way = "--keep" in sys.argv[1:], "--all" in sys.argv[1:]
    screen = Screen()
    for number in (signal.SIGTERM, signal.SIGHUP):  # also when the terminal is closed
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="split-horizon-demo-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        processes = Processes(
            directory,
            {
                "PYTHONDONTWRITEBYTECODE": "1",
                "RELAY_AGENT_CONFIG": str(directory / "agent" / "agent.toml"),
                "RELAY_AGENT_OPERATOR__OPEN_READ": "true",
                "RELAY_PULLER_CONFIG": str(directory / "puller" / "puller.toml"),
            },
        )
        stack.callback(processes.stop)
        story = Story(directory, processes, screen)
        try:
            tell(story, every_way=every_way)
            if keep:
                story.addresses()
                threading.Event().wait()
        except StoryFailed as error:
            screen.failed(str(error))
            return 1
        except KeyboardInterrupt:
            return 0 if keep else 130
    screen.console.print(
        f"\n[bold green]Done in {screen.seconds:.0f} s.[/] Nothing was left behind but .venv-demo."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
