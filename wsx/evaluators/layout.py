"""How many images at a time and how many subnets at once: measured on the machine, once, and remembered.

No score depends on it: ONNX Runtime on the CPU gives the same bits for any batch size and number of threads. In
BatchNorm mode ``batch`` the batch size is part of the score, and only workers and threads are chosen.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wsx.data import ImageSet
from wsx.evaluators.batches import DeviceImages
from wsx.evaluators.devices import Device, SessionFactory, import_onnxruntime
from wsx.evaluators.sources import SubnetSource
from wsx.spaces import Arch

BATCH_SIZES = {"cpu": (16, 32, 64, 128), "cuda": (250, 500, 1000, 2000)}
N_IMAGES = {"cpu": 256, "cuda": 4000}
N_REPEATS = 3
WORTH_S = 60.0
"""Work of fewer estimated seconds is begun at once, with the default layout."""


@dataclass(frozen=True)
class Layout:
    """How work is spread over a machine.

    Attributes:
        batch_size: Images per batch.
        n_workers: Subnets scored at once.
        n_threads: Threads that each of them uses.
    """

    batch_size: int
    n_workers: int
    n_threads: int = 1


def n_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def default_layout(device: Device) -> Layout:
    """Return the layout of work that is not worth a measurement."""
    return Layout(1000, 2) if device.kind == "cuda" else Layout(32, n_cores())


def spreads(device: Device, batch_size: int) -> list[Layout]:
    """Return the ways to spread subnets over a device, all cores busy in each."""
    if device.kind == "cuda":
        return [Layout(batch_size, n) for n in (1, 2, 3)]
    n = n_cores()
    return [Layout(batch_size, n // k, k) for k in (1, 2, n) if n % k == 0 and k <= n]


class LayoutCache:
    """Layouts that were measured before, in one small file.

    A file that cannot be read or written costs a measurement, nothing else.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of_user(cls) -> "LayoutCache":
        """Return the cache of the user who runs this."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(base) / "wsx" / "layouts.json")

    def get(self, key: str) -> Layout | None:
        """Return the layout of a key, None if there is none to be trusted."""
        try:
            layout = Layout(**self._read()[key])
        except (KeyError, TypeError):
            return None
        sizes = list(asdict(layout).values())
        return layout if all(type(n) is int and 0 < n < 10**6 for n in sizes) else None

    def put(self, key: str, layout: Layout) -> None:
        """Remember a layout."""
        known = {**self._read(), key: asdict(layout)}
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(known, indent=1))
            part.replace(self._path)
        except OSError:
            return

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return known if isinstance(known, dict) else {}


def layout_key(source: SubnetSource, device: Device, image_shape: Sequence[int]) -> str:
    """Return what a layout was measured for: the machine, its software, the networks and the images."""
    facts = [
        platform.processor() or platform.machine(),
        _cpu_model(),
        n_cores(),
        import_onnxruntime().__version__,
        device.kind,
        sorted(device.options.items()),
        source.space.name,
        sorted(source.macro.items()),
        str(source.mode),
        list(image_shape),
    ]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=12).hexdigest()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("model name")), "")


def measured_layout(
    source: SubnetSource,
    device: Device,
    images: ImageSet,
    archs: Sequence[Arch],
    *,
    batch_size: int | None,
    cache: LayoutCache,
    timer: Callable[[], float] = time.perf_counter,
) -> Layout:
    """Return the fastest layout, measured unless the cache has it or the work is not worth it.

    Args:
        source: Of the subnets; the first of the archs that can be prepared is run.
        device: Where they run.
        images: What is to be scored on.
        archs: What is to be scored.
        batch_size: Given by the user, or None to choose it too.
        cache: Where measured layouts are kept.
        timer: Seconds.
    """
    key = layout_key(source, device, images.pixels.shape[1:]) + f".{batch_size}"
    if (known := cache.get(key)) is not None:
        return known
    default = default_layout(device)
    if batch_size is not None:
        default = replace(default, batch_size=batch_size)
    few = images.take(min(N_IMAGES[device.kind], len(images)))
    found = _first_trial(source, device, few, archs, default, timer)
    if found is None:
        return default
    trial, seconds = found
    if seconds / len(few) * len(images) * len(archs) < WORTH_S:
        return default
    sizes = BATCH_SIZES[device.kind] if batch_size is None else (batch_size,)
    best = trial.best([replace(default, batch_size=size) for size in sizes])
    best = trial.best(spreads(device, best.batch_size))
    cache.put(key, best)
    return best


def _first_trial(
    source: SubnetSource,
    device: Device,
    images: ImageSet,
    archs: Sequence[Arch],
    layout: Layout,
    timer: Callable[[], float],
) -> "tuple[_Trial, float] | None":
    for arch in archs[:8]:
        try:
            trial = _Trial(source, device, images, source.prepare(arch).model, timer)
            return trial, trial.seconds(layout)
        except Exception:
            # Whatever it is, its row will say; another subnet serves as well here.
            continue
    return None


class _Trial:
    """Runs one subnet's model in several layouts."""

    def __init__(
        self,
        source: SubnetSource,
        device: Device,
        images: ImageSet,
        model: bytes,
        timer: Callable[[], float],
    ) -> None:
        self._source, self._device, self._images = source, device, images
        self._model, self._timer = model, timer

    def best(self, layouts: Sequence[Layout]) -> Layout:
        """Return the fastest of some layouts, each given its best of several interleaved runs."""
        if len(layouts) == 1:
            return layouts[0]
        seconds = {layout: float("inf") for layout in layouts}
        for _ in range(N_REPEATS):
            for layout in layouts:
                seconds[layout] = min(seconds[layout], self.seconds(layout))
        return min(layouts, key=seconds.__getitem__)

    def seconds(self, layout: Layout) -> float:
        """Return the time per subnet where every worker runs one."""
        pads = self._source.mode.kind != "batch"
        images = DeviceImages(self._images, layout.batch_size, self._device, pads=pads)
        factory = SessionFactory(self._source.weights, self._device, n_threads=layout.n_threads)
        workers = range(layout.n_workers)
        sessions = [factory.session(self._model) for _ in workers]
        with ThreadPoolExecutor(layout.n_workers) as executor:
            start_s = self._timer()
            list(executor.map(images.score, sessions))
            return (self._timer() - start_s) / layout.n_workers
