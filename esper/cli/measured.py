"""Where measurements of this machine lie, and the predictor that is fitted to them.

A folder holds the registry, the processor's profile and the predictor: the first two are measurements, the
third is made of them again whenever one is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from esper.errors import EsperError
from esper.files import write_whole
from esper.folders import user_folder

if TYPE_CHECKING:
    from esper.tezzeret.prediction import Predictor, Profile
    from esper.tezzeret.registry import Registry

REGISTRY, PROFILE, PREDICTOR = "registry.sqlite", "cpu-profile.json", "cpu-predictor.json"


class FileUnreadable(EsperError):
    """A file of measurements that is there and cannot be read."""

    code = "E1085"
    message = "`{path}` cannot be read: {reason}"
    help = "make it readable, or choose another folder by ESPER_DATA_DIR"


@dataclass(frozen=True, slots=True)
class Place:
    """A registry, and what lies beside it."""

    registry: Path

    @staticmethod
    def of(registry: Path | None) -> Place:
        return Place(registry or user_folder("data") / REGISTRY)

    @property
    def profile(self) -> Path:
        return self.registry.with_name(PROFILE)

    @property
    def predictor(self) -> Path:
        return self.registry.with_name(PREDICTOR)

    @property
    def torch_version(self) -> str:
        """Of the torch that is installed here: what another measured is another measurement."""
        from esper.tezzeret.prediction.device import torch_version

        return torch_version()

    def open(self) -> Registry:
        """The registry, begun if there is none. Raises as `open_registry` does."""
        from esper.tezzeret.registry import open_registry

        self.registry.parent.mkdir(parents=True, exist_ok=True)
        return open_registry(self.registry)

    def read_profile(self) -> Profile | None:
        """The processor's profile; None where there is none, or another processor's or torch's.

        Raises `ProfileForeign` and `FileUnreadable`.
        """
        from esper.tezzeret.prediction import Profile
        from esper.tezzeret.prediction.device import cpu_name, torch_version

        text = _text(self.profile)
        found = None if text is None else Profile.from_json(text, self.profile)
        fits = found is not None and (found.device, found.torch) == (cpu_name(), torch_version())
        return found if fits else None

    def read_predictor(self) -> Predictor | None:
        """As `read_profile`. Raises `PredictorForeign` and `FileUnreadable`."""
        from esper.tezzeret.prediction import Predictor
        from esper.tezzeret.prediction.device import cpu_name, torch_version

        text = _text(self.predictor)
        found = None if text is None else Predictor.from_json(text, self.predictor)
        fits = found is not None and (found.device, found.torch) == (cpu_name(), torch_version())
        return found if fits else None

    def fit(self, registry: Registry, profile: Profile, before: Predictor | None) -> Predictor:
        """The predictor of `profile` and of what `registry` holds, written down.

        before: one of the same profile, whose operators serve again; they take seconds to fit.
        Raises `MissingPackage` and `FileUnwritable`.
        """
        from esper.tezzeret.prediction.predictor import corrected, fit
        from esper.tezzeret.prediction.recorded import recorded

        observations = recorded(registry, profile.device, profile.torch).observations
        found = fit(profile, observations) if before is None else corrected(before, observations)
        write_whole(self.predictor, found.to_json() + "\n")
        return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FileUnreadable(path=path, reason=reason) from None
