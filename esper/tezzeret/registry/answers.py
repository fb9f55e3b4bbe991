"""Which blueprint answered which requirements, for as long as that may be taken for an answer.

An answer grows stale: searches become better, hardware is measured. So it has a time to live from when it was
given, and beyond the capacity the least recently used goes. What is forgotten is the answer alone; the
version that it names stays.
"""

from __future__ import annotations

from esper.tezzeret.database import Database
from esper.tezzeret.registry.clock import Clock
from esper.tezzeret.registry.versions import Version, Versions
from esper.tezzeret.requirements import Requirements

TABLES = """
CREATE TABLE answers (
    requirements_hash TEXT PRIMARY KEY,
    requirements TEXT NOT NULL,
    version INTEGER NOT NULL REFERENCES versions,
    given REAL NOT NULL,
    used INTEGER NOT NULL UNIQUE
) STRICT;
CREATE INDEX answers_by_age ON answers (given);
"""

_TURN = "(SELECT coalesce(max(used), 0) + 1 FROM answers)"
"""Uses are counted rather than timed: no two are at once, and clocks may be set back."""


class Answers:
    """A cache of versions by the requirements that they answered."""

    def __init__(
        self, database: Database, versions: Versions, clock: Clock, ttl_seconds: float, capacity: int
    ) -> None:
        self._database = database
        self._versions = versions
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._capacity = capacity

    def __len__(self) -> int:
        """How many may still be given."""
        live = self._database.rows("SELECT count(*) FROM answers WHERE given > ?", self._stale_at())
        return int(live[0][0])

    def get(self, requirements: Requirements) -> Version | None:
        """What answered equal requirements less than the time to live ago. It counts as used."""
        with self._database.writing() as connection:
            found = connection.execute(
                f"UPDATE answers SET used = {_TURN} WHERE requirements_hash = ? AND given > ?"
                " RETURNING version",
                (requirements.hash, self._stale_at()),
            ).fetchall()
        return self._versions[found[0][0]] if found else None

    def put(self, requirements: Requirements, number: int) -> None:
        """From here on version `number` answers `requirements`. Raises `UnknownVersion`.

        Stale answers go, then the least recently used beyond the capacity.
        """
        with self._database.writing() as connection:
            self._versions.require(number)
            connection.execute(
                f"INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, {_TURN})",
                (requirements.hash, requirements.text, number, self._clock()),
            )
            connection.execute("DELETE FROM answers WHERE given <= ?", (self._stale_at(),))
            connection.execute(
                "DELETE FROM answers WHERE used IN (SELECT used FROM answers ORDER BY used DESC"
                " LIMIT -1 OFFSET ?)",
                (self._capacity,),
            )

    def _stale_at(self) -> float:
        return self._clock() - self._ttl_seconds
