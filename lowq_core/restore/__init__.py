"""Restorers for bad pictures, the comparison "restore first, then retrieve", as pure functions of (picture, method).

`catalogue` names and applies them; the restorers themselves are in `filters`, what they measure in `measures`.
"""

from lowq_core.restore.catalogue import RESTORERS, restore

__all__ = ["RESTORERS", "restore"]
