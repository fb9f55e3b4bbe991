"""The CUDA driver by ctypes: loading native code, finding its functions, and capturing launches into graphs.
No compiler, no import of Triton.

Code is loaded into the primary context of a device, which torch uses too. A thread in which torch has not yet
called CUDA has no current context, and gets that one. What is loaded stays loaded, since launched kernels may
still be running, and is found again by its digest: swapping seeds back and forth loads nothing twice.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import threading
from collections.abc import Callable

from esper.urza.errors import DriverCallFailed, MissingDriver

LIBRARY = "libcuda.so.1"
SHARED_BYTES_BY_DEFAULT = 48 * 1024
"""Dynamic shared memory that a function may use without asking for more."""

INVALID_CONTEXT = 201
"""What cuLaunchKernel returns in a thread without a context: CUDA_ERROR_INVALID_CONTEXT."""

_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8  # CU_FUNC_ATTRIBUTE_*
_NON_BLOCKING = 1  # CU_STREAM_*: does not wait for the default stream, nor that for it
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_*: what other threads do meanwhile is their affair
_NOT_CAPTURING = 0  # CU_STREAM_CAPTURE_STATUS_NONE


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
        library.cuCtxSynchronize.argtypes = []
        library.cuStreamCreate.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.cuStreamIsCapturing.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.cuStreamBeginCapture_v2.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.cuStreamEndCapture.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.cuGraphInstantiateWithFlags.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulonglong]
        library.cuGraphLaunch.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.cuGraphDestroy.argtypes = [ctypes.c_void_p]
        library.cuGraphExecDestroy.argtypes = [ctypes.c_void_p]
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

    def new_stream(self, device: int) -> ctypes.c_void_p:
        """A stream of `device` that nobody else has, and that waits for no other."""
        self.enter(device)
        stream = ctypes.c_void_p()
        self.check(self._library.cuStreamCreate(ctypes.byref(stream), _NON_BLOCKING), "cuStreamCreate")
        return stream

    def is_capturing(self, stream: ctypes.c_void_p) -> bool:
        """Whether somebody captures what is launched on `stream`."""
        status = ctypes.c_int()
        result = self._library.cuStreamIsCapturing(stream, ctypes.byref(status))
        self.check(result, "cuStreamIsCapturing")
        return status.value != _NOT_CAPTURING

    def capture(self, stream: ctypes.c_void_p, work: Callable[[], None]) -> ctypes.c_void_p:
        """What `work` launches on `stream`, not run but kept as an executable graph."""
        self.check(self._library.cuStreamBeginCapture_v2(stream, _THREAD_LOCAL), "cuStreamBeginCapture")
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            work()
        finally:  # a capture that is left open would make the stream unusable
            ended = self._library.cuStreamEndCapture(stream, ctypes.byref(graph))
        self.check(ended, "cuStreamEndCapture")
        try:
            made = self._library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0)
            self.check(made, "cuGraphInstantiate")
        finally:
            self._library.cuGraphDestroy(graph)
        return executable

    def replay(self, graph: ctypes.c_void_p, stream: ctypes.c_void_p, device: int) -> None:
        """Launches all of an executable graph on `stream`. One thread at a time may do so."""
        result = self._library.cuGraphLaunch(graph, stream)
        if result == INVALID_CONTEXT:
            self.enter(device)
            result = self._library.cuGraphLaunch(graph, stream)
        self.check(result, "cuGraphLaunch")

    def destroy(self, graph: ctypes.c_void_p) -> None:
        """Gives back an executable graph, once the GPU is done with all that was launched."""
        self.check(self._library.cuCtxSynchronize(), "cuCtxSynchronize")
        self.check(self._library.cuGraphExecDestroy(graph), "cuGraphExecDestroy")

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
