"""The commands of ``external-agent``, one file for each group."""
