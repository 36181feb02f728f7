"""Tells people, through apprise, what needs them, and when it is over."""
