"""CUDA graphs: kernels that are launched again and again alike are launched as one.

A stretch of kernels between two library calls, all of a block where it has none, is captured when it comes
back with the same sizes and the same addresses, as it does once a training loop has settled: torch's
allocator gives the same places to the same requests. From then on it is one call of the driver. Since every
call still asks the allocator for its memory, a graph replays exactly the launches that it replaces: results
are tensors of their own, and nothing is copied. Whatever differs is launched kernel by kernel. Dropout seeds
and alpha lie in memory, so their values change without another capture.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence

from esper.ir.dims import size_symbols
from esper.urza.generate.writer import Launch
from esper.urza.run.bound_program import Buffers
from esper.urza.run.launcher import Launcher

REPEATS = 3
"""How often a stretch is launched kernel by kernel with equal sizes and addresses before it is captured."""

GRAPHS_KEPT = 8
"""How many graphs of one stretch are kept: those used last."""

_KEYS_REMEMBERED = 64

_Key = tuple[tuple[int, ...], tuple[int, ...]]


class Graphs:
    """Launches as `launches` does, by graphs where launches repeat: called as `bound_program.launch` is.

    captures, replays: how often a stretch was captured, and launched as a graph. Raises what `launches`
    raises, and DriverCallFailed.
    """

    def __init__(self, launches: Launcher) -> None:
        self.captures = 0
        self.replays = 0
        self._launches = launches
        self._driver = launches.driver
        self._stretches: dict[int, _Stretch] = {}
        self._own_stream: ctypes.c_void_p | None = None
        self._lock = threading.Lock()  # the driver lets one thread at a time use a graph

    def __call__(self, stretch: Sequence[Launch], buffers: Buffers, sizes: Mapping[str, int]) -> None:
        if len(stretch) < 2:
            self._launches(stretch, buffers, sizes)
            return
        stream = self._launches.stream()
        with self._lock:
            known = self._stretches.get(id(stretch))
            if known is None:
                known = self._stretches[id(stretch)] = _Stretch(stretch)
            key = known.key(buffers.addresses, sizes)
            graph = known.graphs.get(key)
            # A stream that the caller captures takes single launches, which join the caller's graph.
            if (graph is not None or known.is_due(key)) and not self._driver.is_capturing(stream):
                graph = graph or self._capture(known, key, buffers, sizes)
                self._driver.replay(graph, stream, self._launches.device)
                self.replays += 1
                known.keep(key, graph)
                return
        self._launches.on(stream, stretch, buffers, sizes)

    def _capture(
        self, known: _Stretch, key: _Key, buffers: Buffers, sizes: Mapping[str, int]
    ) -> ctypes.c_void_p:
        device = self._launches.device
        self._driver.enter(device)
        if self._own_stream is None:
            self._own_stream = self._driver.new_stream(device)
        own = self._own_stream
        graph = self._driver.capture(own, lambda: self._launches.on(own, known.stretch, buffers, sizes))
        self.captures += 1
        if len(known.graphs) == GRAPHS_KEPT:
            self._driver.destroy(known.graphs.pop(next(iter(known.graphs))))
        return graph


class _Stretch:
    """What is known of one stretch; it holds the stretch, whose identity it is found by."""

    def __init__(self, stretch: Sequence[Launch]) -> None:
        self.stretch = stretch
        self.graphs: dict[_Key, ctypes.c_void_p] = {}
        self._seen: dict[_Key, int] = {}
        self._names = tuple(dict.fromkeys(name for step in stretch for name in step.buffers.values()))
        sizes = [size for step in stretch for size in step.sizes.values()]
        self._symbols = tuple(sorted(frozenset().union(*map(size_symbols, sizes))))

    def key(self, addresses: Mapping[str, int], sizes: Mapping[str, int]) -> _Key:
        """All that the launches of this stretch depend on."""
        return tuple([addresses[name] for name in self._names]), tuple([sizes[s] for s in self._symbols])

    def keep(self, key: _Key, graph: ctypes.c_void_p) -> None:
        """Keeps `graph` as the one used last."""
        self.graphs.pop(key, None)
        self.graphs[key] = graph

    def is_due(self, key: _Key) -> bool:
        """Whether launches with this key have repeated often enough; it counts them."""
        seen = self._seen.pop(key, 0)
        if seen >= REPEATS:
            return True
        self._seen[key] = seen + 1
        if len(self._seen) > _KEYS_REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        return False
