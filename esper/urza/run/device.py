"""Which GPU is here, asked of the driver itself: no import of torch, no context."""

from __future__ import annotations

import ctypes
import functools

from esper.urza.builder.toolchain import TARGETS

WITHOUT_GPU = ("sm_80", "sm_90")
"""What is compiled for where there is no GPU."""

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@functools.cache
def local_target() -> str | None:
    """The target of the first GPU, such as `sm_90`; None where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    )
    return None if failed else f"sm_{major.value}{minor.value}"


def default_targets() -> tuple[str, ...]:
    """The GPU here if kernels can be built for it, else `WITHOUT_GPU`."""
    found = local_target()
    return (found,) if found in TARGETS else WITHOUT_GPU
