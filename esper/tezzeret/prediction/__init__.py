"""Prediction of a blueprint's time on a processor: learned of measurements, with calibrated intervals.

The unit is a call of the torch tier. `sweep` says what a device is measured on, `timing` measures,
`operators` learns what each call takes, `predictor` sums, corrects and tells how certain that is. It reads no
file and writes none: commands hand it text. It must not know how candidates are searched.
"""

from esper.tezzeret.prediction.predictor import Estimate, Observation, Prediction, Predictor, fit
from esper.tezzeret.prediction.profile import Profile

__all__ = ["Estimate", "Observation", "Prediction", "Predictor", "Profile", "fit"]
