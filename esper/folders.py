"""Where Esper keeps what belongs to a user: the platform's folders, or those that the environment names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

_UNIX = {"cache": ".cache", "data": ".local/share"}
_MAC = {"cache": "Caches", "data": "Application Support"}


def user_folder(kind: Literal["cache", "data"]) -> Path:
    """$ESPER_CACHE_DIR or $ESPER_DATA_DIR, else `esper` in the platform's folder for what `kind` says."""
    if chosen := os.environ.get(f"ESPER_{kind.upper()}_DIR"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / _MAC[kind] / "esper"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "esper" / kind
    return Path(os.environ.get(f"XDG_{kind.upper()}_HOME") or Path.home() / _UNIX[kind]) / "esper"
