"""Blueprints, and how each came about.

A blueprint is content: its graph's canonical hash names it. A version is an event: a blueprint was made by
someone for something, perhaps from another version by an edit. An edit and its undoing lead to the blueprint
that there was, but to another version, so lineages have no cycles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from esper.lang import ParameterValue, SizeValue
from esper.tezzeret.database import Database
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.registry.clock import Clock
from esper.tezzeret.registry.errors import UnknownVersion, UnregisteredBlueprint
from esper.tezzeret.requirements import Requirements

TABLES = """
CREATE TABLE blueprints (
    ir_hash TEXT PRIMARY KEY, name TEXT NOT NULL, source TEXT NOT NULL, settings TEXT NOT NULL
) STRICT;
CREATE TABLE versions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    ir_hash TEXT NOT NULL REFERENCES blueprints,
    parent INTEGER REFERENCES versions CHECK (parent < number),
    edit TEXT NOT NULL,
    synthesizer TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    requirements TEXT,
    time REAL NOT NULL
) STRICT;
CREATE INDEX versions_of ON versions (ir_hash);
CREATE INDEX children_of ON versions (parent);
"""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """ir_hash: canonical. source: the text of the file that has the blueprint `name`, not of what it imports.
    values, sizes, precision: as in `esper.lower`, which gives the graph again."""

    ir_hash: str
    name: str
    source: str
    values: Mapping[str, ParameterValue] = field(default_factory=dict)
    sizes: Mapping[str, SizeValue] = field(default_factory=dict)
    precision: str | None = None


def blueprint_of(evaluator: Evaluator, candidate: Candidate) -> Blueprint:
    """What a search has found, as a registry keeps it."""
    return Blueprint(
        candidate.ir_hash,
        evaluator.loaded.blueprint.name.text,
        evaluator.loaded.source.text,
        {**evaluator.fixed, **candidate.values},
        dict(evaluator.sizes),
        evaluator.precision,
    )


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who made a blueprint, how, and for which requirements if there were any."""

    synthesizer: str
    algorithm: str
    requirements: Requirements | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """parent: the number of the version that it was made from, by `edit`. time: seconds since 1970."""

    number: int
    blueprint: Blueprint
    provenance: Provenance
    parent: int | None
    edit: str
    time: float


_COLUMNS = """
    number, ir_hash, name, source, settings, synthesizer, algorithm, requirements, parent, edit, time
"""


class Versions:
    """The blueprints of a registry, and what became of them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def __len__(self) -> int:
        return int(self._database.rows("SELECT count(*) FROM versions")[0][0])

    def add(
        self, blueprint: Blueprint, provenance: Provenance, *, parent: int | None = None, edit: str = ""
    ) -> Version:
        """A version of `blueprint`: the one that there is, if the same was made in the same way before.

        Of several sources of one graph the first is kept. Raises `UnknownVersion` for the parent.
        """
        requirements = None if provenance.requirements is None else provenance.requirements.text
        made = (blueprint.ir_hash, parent, edit, provenance.synthesizer, provenance.algorithm, requirements)
        with self._database.writing() as connection:
            if parent is not None:
                self.require(parent)
            connection.execute(
                "INSERT INTO blueprints VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (blueprint.ir_hash, blueprint.name, blueprint.source, _settings(blueprint)),
            )
            found = connection.execute(
                "SELECT number FROM versions WHERE ir_hash = ? AND parent IS ? AND edit = ?"
                " AND synthesizer = ? AND algorithm = ? AND requirements IS ?",
                made,
            ).fetchone()
            if found is None:
                found = connection.execute(
                    "INSERT INTO versions"
                    " (ir_hash, parent, edit, synthesizer, algorithm, requirements, time)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING number",
                    (*made, self._clock()),
                ).fetchone()
        return self[found[0]]

    def __getitem__(self, number: int) -> Version:
        """Raises `UnknownVersion`."""
        self.require(number)
        return self._read("WHERE number = ?", number)[0]

    def all(self) -> list[Version]:
        """The first made first."""
        return self._read("ORDER BY number")

    def of(self, ir_hash: str) -> list[Version]:
        """All versions of one blueprint, the first made first; empty where it is unknown."""
        return self._read("WHERE ir_hash = ? ORDER BY number", ir_hash)

    def children(self, number: int) -> list[Version]:
        """What was made from a version by one edit. Raises `UnknownVersion`."""
        self.require(number)
        return self._read("WHERE parent = ? ORDER BY number", number)

    def lineage(self, number: int) -> list[Version]:
        """A version and those that it descends from, the first ancestor first. Raises `UnknownVersion`."""
        self.require(number)
        return self._read(
            "JOIN (WITH RECURSIVE line(at, up) AS ("
            " SELECT number, parent FROM versions WHERE number = ?"
            " UNION ALL SELECT number, parent FROM versions JOIN line ON number = up"
            ") SELECT at FROM line) ON number = at ORDER BY number",
            number,
        )

    def require(self, number: int) -> None:
        """Raises `UnknownVersion`."""
        is_number = number.bit_length() < 64  # as SQLite has them
        if not is_number or not self._database.rows("SELECT 1 FROM versions WHERE number = ?", number):
            raise self._unknown(number)

    def require_blueprint(self, ir_hash: str) -> None:
        """Raises `UnregisteredBlueprint`."""
        if not self._database.rows("SELECT 1 FROM blueprints WHERE ir_hash = ?", ir_hash):
            raise UnregisteredBlueprint(path=self._database.path, ir_hash=ir_hash)

    def _unknown(self, number: int) -> UnknownVersion:
        ((least, most),) = self._database.rows("SELECT min(number), max(number) FROM versions")
        known = "none yet" if least is None else f"{least} to {most}"
        return UnknownVersion(path=self._database.path, number=number, known=known)

    def _read(self, which: str, *values: Any) -> list[Version]:
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM versions JOIN blueprints USING (ir_hash) {which}", *values
        )
        try:
            return [_version(*row) for row in rows]
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ) as error:  # pydantic's and JSON's are of the first kind
            reason = "a version in it cannot be read"
            raise self._database.format.foreign(path=self._database.path, reason=reason) from error


def _settings(blueprint: Blueprint) -> str:
    settings = {
        "values": dict(blueprint.values),
        "sizes": dict(blueprint.sizes),
        "precision": blueprint.precision,
    }
    return json.dumps(settings, sort_keys=True)


def _version(
    number: int,
    ir_hash: str,
    name: str,
    source: str,
    settings: str,
    synthesizer: str,
    algorithm: str,
    requirements: str | None,
    parent: int | None,
    edit: str,
    time: float,
) -> Version:
    asked = None if requirements is None else Requirements.model_validate_json(requirements)
    how = json.loads(settings)
    sizes = {one: tuple(size) if isinstance(size, list) else size for one, size in how["sizes"].items()}
    blueprint = Blueprint(ir_hash, name, source, how["values"], sizes, how["precision"])
    return Version(number, blueprint, Provenance(synthesizer, algorithm, asked), parent, edit, time)
