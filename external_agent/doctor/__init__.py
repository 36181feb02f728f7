"""Finds out on the Internet side why something does not work; changes nothing, blocks nothing."""
