"""The CUDA driver by ctypes: loading native code and finding its functions. No compiler, no import of Triton.

Code is loaded into the primary context of a device, which torch uses too. A thread in which torch has not yet
called CUDA has no current context, and gets that one. What is loaded stays loaded, since launched kernels may
still be running, and is found again by its digest: swapping seeds back and forth loads nothing twice.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import threading

from esper.urza.errors import DriverCallFailed, MissingDriver

LIBRARY = "libcuda.so.1"
SHARED_BYTES_BY_DEFAULT = 48 * 1024
"""Dynamic shared memory that a function may use without asking for more."""

INVALID_CONTEXT = 201
"""What cuLaunchKernel returns in a thread without a context: CUDA_ERROR_INVALID_CONTEXT."""

_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8  # CU_FUNC_ATTRIBUTE_*


class Driver:
    """The driver's functions that loading and launching need. library: what exports them.

    `launch` is cuLaunchKernel itself: its caller passes ctypes values, and hands the result to `check`.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._functions: dict[tuple[int, str, str], ctypes.c_void_p] = {}
        self._loading = threading.Lock()
        self.launch = library.cuLaunchKernel
        library.cuModuleLoadData.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.cuModuleGetFunction.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p]
        library.cuFuncSetAttribute.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        library.cuDeviceGet.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.cuDevicePrimaryCtxRetain.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.cuCtxGetCurrent.argtypes = [ctypes.c_void_p]
        library.cuCtxSetCurrent.argtypes = [ctypes.c_void_p]
        library.cuGetErrorString.argtypes = [ctypes.c_int, ctypes.c_void_p]

    def function(self, cubin: bytes, symbol: str, shared_bytes: int, device: int) -> ctypes.c_void_p:
        """The function `symbol` of `cubin`, allowed to use `shared_bytes` of dynamic shared memory.

        device: the number of the current device. Raises DriverCallFailed, as where the code is for another
        GPU or asks for more shared memory than it has.
        """
        key = device, hashlib.sha256(cubin).hexdigest(), symbol
        with self._loading:
            if key not in self._functions:
                self.enter(device)
                self._functions[key] = self._load(cubin, symbol, shared_bytes)
            return self._functions[key]

    def enter(self, device: int) -> None:
        """Makes the device's primary context current if this thread has no context."""
        context, handle = ctypes.c_void_p(), ctypes.c_int()
        self.check(self._library.cuCtxGetCurrent(ctypes.byref(context)), "cuCtxGetCurrent")
        if context.value is not None:
            return
        self.check(self._library.cuDeviceGet(ctypes.byref(handle), device), "cuDeviceGet")
        retained = self._library.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle.value)
        self.check(retained, "cuDevicePrimaryCtxRetain")
        self.check(self._library.cuCtxSetCurrent(context), "cuCtxSetCurrent")

    def _load(self, cubin: bytes, symbol: str, shared_bytes: int) -> ctypes.c_void_p:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self._library.cuModuleLoadData(ctypes.byref(module), cubin), "cuModuleLoadData")
        found = self._library.cuModuleGetFunction(ctypes.byref(function), module, symbol.encode())
        self.check(found, "cuModuleGetFunction")
        if shared_bytes > SHARED_BYTES_BY_DEFAULT:
            allowed = self._library.cuFuncSetAttribute(function, _MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes)
            self.check(allowed, "cuFuncSetAttribute")
        return function

    def check(self, result: int, call: str) -> None:
        """Raises DriverCallFailed unless `result` is CUDA_SUCCESS."""
        if result == 0:
            return
        text = ctypes.c_char_p()
        known = self._library.cuGetErrorString(result, ctypes.byref(text)) == 0 and text.value is not None
        reason = (text.value or b"").decode() if known else "an error without a name"
        raise DriverCallFailed(call=call, number=result, reason=reason)


_opening = threading.Lock()


def cuda_driver() -> Driver:
    """The driver of this machine; MissingDriver where there is none."""
    with _opening:
        return _cuda_driver()


@functools.cache
def _cuda_driver() -> Driver:
    try:
        return Driver(ctypes.CDLL(LIBRARY))
    except OSError as error:
        raise MissingDriver(library=LIBRARY, reason=str(error)) from error
