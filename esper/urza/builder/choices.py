"""What tuning found out and chose, kernel by kernel, in the folder of the kernel cache.

A record lists the time of each configuration that was tried, so that tuning which was stopped goes on where
it was. Records are small, written whole, and never needed: without one, or with one that cannot be read, a
kernel is built as the model of the GPU would have it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from esper.files import write_whole
from esper.urza.builder.toolchain import templates_digest, triton_version
from esper.urza.kernel import KernelSource

if TYPE_CHECKING:
    from esper.urza.builder.tuning_records import Record


@dataclass(frozen=True)
class Choices:
    """Records by kernel and target; `folder` is the cache's."""

    folder: Path
    _known: dict[str, Record | None] = field(default_factory=dict, repr=False, compare=False)

    def record(self, kernel: KernelSource, target: str) -> Record | None:
        """What is known, or None."""
        key = self._key(kernel, target)
        if key not in self._known:
            self._known[key] = self._read(key)
        return self._known[key]

    def keep(self, kernel: KernelSource, target: str, record: Record) -> None:
        """Writes a record, whole or not at all. Raises `FileUnwritable`."""
        key = self._key(kernel, target)
        path = self._path(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, record.model_dump_json(indent=1) + "\n")
        self._known[key] = record

    def applied(self, kernel: KernelSource, target: str) -> KernelSource:
        """`kernel` in the configuration that was chosen for it; what it was becomes its first alternative."""
        record = self.record(kernel, target)
        if record is None or record.chosen is None:
            return kernel
        chosen = kernel.configured(record.chosen.configuration)
        if chosen.digest == kernel.digest:
            return kernel
        return replace(chosen, alternatives=(kernel.configuration, *kernel.alternatives))

    def _read(self, key: str) -> Record | None:
        try:
            text = self._path(key).read_bytes()
        except OSError:
            return None
        # pydantic is loaded where there is a record: most kernels have none.
        from esper.urza.builder.tuning_records import read_record

        return read_record(text)

    def _key(self, kernel: KernelSource, target: str) -> str:
        parts: Mapping[str, str] = {
            "kernel": kernel.digest,
            "target": target,
            "triton": triton_version(),
            "templates": templates_digest(kernel.source),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / "tuning" / key[:2] / f"{key}.json"
