"""Reads the configuration of servers that run here, and proposes targets; changes nothing."""
