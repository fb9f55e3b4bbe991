"""CIFAR-10 from its binary files: one byte of label and 3,072 of pixels for each image, and no code.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esper.simic.errors import DataMissing, DataUnreadable

FOLDER = "cifar-10-batches-bin"
"""What the archive unpacks to: where the files are looked for unless a path is given."""
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
COMMAND = "curl -LO https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz && tar xzf cifar-10-binary.tar.gz"
RECORD = 1 + 3 * 32 * 32
CLASSES = 10

Images = tuple[NDArray[np.float32], NDArray[np.int64]]


def read(folder: Path) -> tuple[Images, Images]:
    """Training and test images: x float32 [N, 3, 32, 32], standardised by the training images; y int64 [N].

    Raises `DataMissing` with the command that gets the files, `DataUnreadable`.
    """
    for name in (*TRAIN, TEST):
        if not (folder / name).is_file():
            way_out = f"get it with `{COMMAND}`, and give its folder with --data"
            raise DataMissing(task="cifar10", missing=str(folder / name), way_out=way_out)
    parts = [_records(folder / name) for name in TRAIN]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    test_pixels, test_labels = _records(folder / TEST)
    mean = pixels.mean((0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = pixels.std((0, 2, 3), keepdims=True, dtype=np.float64)
    scaled = [((p - mean) / deviation).astype(np.float32) for p in (pixels, test_pixels)]
    return (scaled[0], labels), (scaled[1], test_labels)


def _records(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % RECORD:
        reason = f"it has {len(content):,} bytes, no multiple of {RECORD:,}"
        raise DataUnreadable(
            path=path, task="cifar10", reason=reason, way_out=f"get it anew with `{COMMAND}`"
        )
    rows = content.reshape(-1, RECORD)
    labels = rows[:, 0].astype(np.int64)
    if labels.max() >= CLASSES:
        reason = f"it has the label {labels.max()}, expected 0 to {CLASSES - 1}"
        raise DataUnreadable(
            path=path, task="cifar10", reason=reason, way_out=f"get it anew with `{COMMAND}`"
        )
    return rows[:, 1:].reshape(-1, 3, 32, 32), labels
