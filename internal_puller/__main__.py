"""``python -m internal_puller``: the same as the command ``internal-puller``."""

from internal_puller.cli import main

main()
