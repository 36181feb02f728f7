"""Presets: what is known of each kind of server. One table; everything else is made from it."""
