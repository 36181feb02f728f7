"""Finds out on the intranet side why something does not work; changes nothing, blocks nothing."""
