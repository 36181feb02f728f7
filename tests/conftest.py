"""How many examples a property is given: some at a desk, many in CI."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("desk", max_examples=40, **_COMMON)
settings.register_profile("many", max_examples=200, **_COMMON)
settings.load_profile("desk" if os.environ.get("CI", "") in ("", "0", "false") else "many")
