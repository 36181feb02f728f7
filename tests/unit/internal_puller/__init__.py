"""Unit tests of the puller's own decisions, files and exchanges."""
