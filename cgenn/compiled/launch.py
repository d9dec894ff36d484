"""Warp kernels from source, and their launches on torch tensors with little to do for Python in each call."""

from __future__ import annotations

import ctypes
import hashlib
import linecache
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from itertools import pairwise
from threading import Timer
from time import perf_counter
from typing import Any, NamedTuple

import torch
import warp as wp
from torch import Tensor

from cgenn.compiled.mixing_source import AT_ONCE
from cgenn.compiled.scalar_source import THREADS, in_scalars

wp.config.log_level = wp.LOG_ERROR  # the standard output is for results
wp.init()

OPTIONS = {
    "max_unroll": 0,
    "fast_math": True,
    "cpu_compiler_flags": "-march=native -ffp-contract=fast -mprefer-vector-width=512 -mreassociate -freciprocal-math "
    "-fno-signed-zeros -mstackrealign -mstack-alignment=64 -fno-slp-vectorize -mllvm=-unroll-full-max-count=4 "
    "-Wno-psabi",
}
"""Loops over the lanes of a vector are to become vector instructions: unrolled first, they would not. Vectors that are
longer than a register are given to inlined functions only, whatever the compiler would warn of."""
_WIDTHS = (32, 16, 8)
_FEWEST = 128
"""Beads of a thread."""
CHUNK = 20 * AT_ONCE
"""Beads at a time, so that what is computed of them between two passes over edges stays in the cache of a processor;
whole groups of those that are mixed at once."""
_WORTH_A_WORD = 1.0
"""Seconds; what is in the cache is loaded in less."""
_log = logging.getLogger(__name__)
_ACCESS = '''
@wp.func_native("return values.data[place];")
def vector(values: wp.array(dtype=Lanes), place: wp.int64) -> Lanes: ...

@wp.func_native("values.data[place] = value;")
def put(values: wp.array(dtype=Lanes), place: wp.int64, value: Lanes): ...

@wp.func_native("""asm volatile("" ::: "memory");""")
def barrier(): ...

@wp.func_native("""
    const char* const start = (const char*)(values.data + place);
    for (size_t k = 0; k < count * sizeof(*values.data); k += 64) __builtin_prefetch(start + k);
""")
def fetch(values: wp.array(dtype=Lanes), place: wp.int64, count: wp.int32): ...
'''
"""Elements of flat arrays; in brackets, numbers from the end would be allowed, and be looked for. What is fetched is in
the cache when it is needed. A barrier is one for the compiler alone: no access to memory is moved across, so that what
was read before is not kept in registers for later."""


def has_threads(device: torch.device) -> bool:
    """Whether each channel of a bead has a thread of its own, as on a GPU, in place of a lane of a vector."""
    return device.type == "cuda"


def padded(channels: int, device: torch.device) -> int:
    """Channels with those of zeros that fill the last vector, or keep the last threads of a bead in step."""
    width = THREADS if has_threads(device) else _WIDTHS[-1]
    return -(-channels // width) * width


def lanes(channels: int, device: torch.device) -> int:
    """How many of them, padded, a thread works on at a time."""
    return 1 if has_threads(device) else next(width for width in _WIDTHS if channels % width == 0)


def has_wide_registers(device: torch.device) -> bool:
    """Whether six vectors of 32 lanes leave room in the registers, as on a processor with AVX-512."""
    return has_threads(device) or "AVX512" in torch.backends.cpu.get_cpu_capability()


def columns(channels: int, lanes: int) -> int:
    """How many sums there are of each edge over channels, which are added up in the end."""
    return channels // (THREADS if lanes == 1 else lanes)


def on_stream(device: torch.device) -> AbstractContextManager[Any]:
    """What is launched inside is in order with the work of torch."""
    if device.type != "cuda":
        return nullcontext()
    return wp.ScopedStream(wp.stream_from_torch(device), sync_enter=False)


@cache
def _names(dtype: torch.dtype, lanes: int) -> dict[str, Any]:
    """What the source of a kernel may use: Real, Lanes, Vector, Shape (see `edge_source.SHAPE`), and, if there is one
    lane, squashed, its sigmoid."""
    real = wp.float64 if dtype == torch.float64 else wp.float32
    kind = real if lanes == 1 else wp.types.vector(lanes, real)

    @wp.func
    def squashed(value: real) -> real:  # type: ignore[valid-type]
        return real(1.0) / (real(1.0) + wp.exp(-value))  # type: ignore[operator]

    names = {"wp": wp, "Real": real, "Lanes": kind}
    names |= {"Vector": wp.types.vector(3, real), "Shape": wp.types.vector(4, real)}
    return names | {"squashed": squashed} if lanes == 1 else names


@cache
def kernel(text: str, dtype: torch.dtype, lanes: int) -> Any:
    """A kernel from its source; compiled when it is first launched, and kept by Warp for the next process."""
    name = text[len("def ") : text.index("(")]
    text = (in_scalars(text) if lanes == 1 else text) + _ACCESS
    file = f"<{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope = dict(_names(dtype, lanes))
    exec(compile(text, file, "exec"), scope)
    return wp.kernel(scope[name], enable_backward=False, module="unique", module_options=OPTIONS)


def load(kernels: Sequence[Any], device: torch.device) -> None:
    """Compile kernels that are not in Warp's cache, and load them: up to four at a time.

    Raises:
        RuntimeError: if one cannot be compiled, with what Warp says.
    """
    modules = list({id(kernel.module): kernel.module for kernel in kernels}.values())
    start = perf_counter()
    notice = Timer(_WORTH_A_WORD, _log.info, ["compiling the kernels of the network, which takes some ten seconds"])
    notice.daemon = True
    notice.start()
    try:
        wp.force_load(device=str(device), modules=modules, max_workers=None)
    except Exception as error:  # Warp raises nothing more special
        raise RuntimeError(f"the kernels of the network cannot be compiled: {error}") from error
    finally:
        notice.cancel()
    took = perf_counter() - start
    if took > _WORTH_A_WORD:
        _log.info("the kernels of the network were compiled in %.0f s; they are kept for the next time", took)


class Command:
    """A kernel with its arguments for one thread; what changes from launch to launch is set in place."""

    def __init__(self, kernel: Any, shape: tuple[int, int], arguments: Sequence[Any], device: torch.device) -> None:
        self.command = wp.launch(kernel, shape, inputs=arguments, device=str(device), record_cmd=True)
        self.shape, self.on_gpu = shape, device.type == "cuda"
        values = self.command.params[1:]
        self.arguments = _structure(tuple(map(type, values)))(*values)
        self._prepare()

    def _prepare(self) -> None:
        """What a launch needs; on a CPU there is less to do than in Warp's own function."""
        command = self.command
        if self.on_gpu:
            self.launch = command.launch
        else:
            given = ctypes.byref(command.bounds), ctypes.byref(self.arguments)
            self.launch = partial(command.hooks.forward, *given)

    def set(self, number: int, value: Any) -> None:
        """Another value for an argument."""
        setattr(self.arguments, f"_{number}", value)
        if self.on_gpu:
            self.command.set_param_at_index_from_ctype(number, value)

    def resize(self, shape: tuple[int, int]) -> None:
        """Another number of rows and blocks."""
        if shape != self.shape:
            self.shape = shape
            self.command.set_dim(shape)
            self._prepare()


@cache
def _structure(kinds: tuple[Any, ...]) -> type[ctypes.Structure]:
    """What holds arguments of these types, named _0, _1, ..."""
    return type("Arguments", (ctypes.Structure,), {"_fields_": [(f"_{n}", kind) for n, kind in enumerate(kinds)]})


class Launch:
    """A kernel with its arguments, to be launched again and again over beads and blocks of channels."""

    def __init__(
        self,
        kernel: Any,
        beads: int,
        blocks: int,
        arguments: Sequence[Tensor | float],
        device: torch.device,
        parts: int | None = None,
    ) -> None:
        given = [_argument(value, wanted.type) for value, wanted in zip(arguments, kernel.adj.args[1:], strict=True)]
        self.parts = [
            Command(kernel, (last - first, blocks), [first, *given], device)
            for first, last in pairwise(bounds(beads, device, parts))
        ]
        self.kernel, self.kept, self.beads, self.blocks = kernel, list(arguments), beads, blocks
        self.range = (0, beads)

    def give(self, values: Mapping[int, Tensor | int]) -> None:
        """Other tensors or whole numbers for some of the arguments, by their number."""
        for number, value in values.items():
            if self.kept[number] is value:
                continue
            found = _argument(value, self.kernel.adj.args[number + 1].type, raw=True)
            self.kept[number] = value
            for part in self.parts:
                part.set(number + 1, found)

    def give_each(self, number: int, values: Sequence[int]) -> None:
        """A whole number of its own for each thread."""
        for part, value in zip(self.parts, values, strict=True):
            part.set(number + 1, value)

    def over(self, first: int, last: int) -> None:
        """Only these beads, from now on."""
        if self.range != (first, last):
            self.range = (first, last)
            for part, (start, stop) in zip(self.parts, pairwise(cuts(first, last, len(self.parts))), strict=True):
                part.resize((stop - start, self.blocks))
                part.set(0, start)

    def resize(self, blocks: int) -> None:
        """Another number of blocks of channels, for a kernel in one part."""
        if blocks != self.blocks:
            self.blocks = blocks
            self.parts[0].resize((self.beads, blocks))

    def __call__(self) -> None:
        in_threads([part.launch for part in self.parts])


class Step(NamedTuple):
    """A kernel over some beads, with the arguments after `chunk`: where these beads begin, and how many they are."""

    kernel: Any
    blocks: int
    arguments: Sequence[Tensor | float]
    rows: int = 1
    """Beads of a thread of the kernel."""


class Steps:
    """Kernels that follow each other for a few beads at a time, so that what is between them stays in the cache."""

    def __init__(self, first: int, last: int, size: int, steps: Sequence[Step], device: torch.device) -> None:
        self.kept = steps  # commands hold addresses only
        self.starts = list(range(first, last, size))
        self.rest = last - self.starts[-1] if self.starts else 0
        size = size if len(self.starts) > 1 else self.rest
        self.chunk = torch.tensor([first, size], dtype=torch.int32, device=device)
        self.bounds = self.chunk.numpy() if device.type == "cpu" else None  # the same memory
        self.full = [_step(step, self.chunk, size, device) for step in steps]
        self.last = [_step(step, self.chunk, self.rest, device) for step in steps]
        self.size = size

    def over(self, first: int, last: int) -> None:
        """Only these beads, from now on."""
        self.starts = list(range(first, last, self.size))
        rest = last - self.starts[-1] if self.starts else 0
        if rest != self.rest:
            self.rest = rest
            for command, step in zip(self.last, self.kept, strict=True):
                command.resize((-(-rest // step.rows), step.blocks))

    def __call__(self) -> None:
        for first in self.starts:
            ending = first == self.starts[-1]
            if self.bounds is not None:
                self.bounds[0], self.bounds[1] = first, self.rest if ending else self.size
            for command in self.last if ending else self.full:
                command.launch()


def _step(step: Step, chunk: Tensor, beads: int, device: torch.device) -> Command:
    kinds = [each.type for each in step.kernel.adj.args]
    given = [_argument(value, kind) for value, kind in zip([chunk, *step.arguments], kinds, strict=True)]
    return Command(step.kernel, (-(-beads // step.rows), step.blocks), given, device)


def bounds(beads: int, device: torch.device, parts: int | None = None) -> list[int]:
    """Where the beads of each thread begin, and the end."""
    if parts is None:
        parts = 1 if device.type == "cuda" else max(1, min(torch.get_num_threads(), beads // _FEWEST))
    return cuts(0, beads, parts)


def cuts(first: int, last: int, parts: int) -> list[int]:
    """Where the beads of each thread begin, and the end, of some beads."""
    return [first + (last - first) * part // parts for part in range(parts + 1)]


def in_threads(calls: Sequence[Callable[[], None]]) -> None:
    """All of them, each in a thread of its own."""
    if len(calls) == 1:
        calls[0]()
    else:
        list(_pool(len(calls)).map(lambda call: call(), calls))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _argument(value: Tensor | float, wanted: Any, *, raw: bool = False) -> Any:
    if not isinstance(value, Tensor):
        return value
    length = getattr(wanted.dtype, "_length_", 0)
    if length > 1:
        value = value.view(*value.shape[:-1], value.shape[-1] // length, length)
    if value.dim() - (length > 1) > wanted.ndim:
        value = value.flatten(0, value.dim() - wanted.ndim - (length > 1)) if wanted.ndim == 1 else value.squeeze(-2)
    return wp.from_torch(value, dtype=wanted.dtype, return_ctype=raw)
