"""What a server really serves: looked at from outside, as any client would."""

from internal_puller.install.probe.looking import kind_in_place, look, look_all, probe_target

__all__ = ["kind_in_place", "look", "look_all", "probe_target"]
