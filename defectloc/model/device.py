"""Which device a command runs on, and in which mode."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from defectloc.errors import DefectlocError


def choose(device: str) -> str:
    """Give 'cuda', 'mps' or 'cpu' for a name or 'auto'; raises DefectlocError for one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, found in there.items() if found)
    if not there.get(device, False):
        raise DefectlocError(
            f"device={device} is not there; this machine has {', '.join(n for n in there if there[n])}."
        )
    return device


def prepare(device: str, threads: int | None) -> None:
    """Set the number of threads (None: all cores of this process) and the mode in which equal runs give equal numbers.

    To be called before the first computation. On CUDA, float32 means float32 (no TF32), and every operation of a fit is
    deterministic; one without such an implementation, such as the gradient of torchvision's adaptive pooling in
    `explain`, warns instead of failing.
    """
    torch.set_num_threads(threads or n_cores())
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    if device == "cuda":
        # cuBLAS reads it when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Costs time, and nothing here reads memory that was not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def shared_by(most: int) -> Iterator[int]:
    """Share the threads that `prepare` set among at most `most` workers that compute at once; gives their number.

    Python threads that are started meanwhile take their share over.
    """
    n_threads = torch.get_num_threads()
    # At most one thread is left idle.
    n_workers = max(n for n in range(1, most + 1) if n <= n_threads and n_threads % n <= 1)
    torch.set_num_threads(n_threads // n_workers)
    try:
        yield n_workers
    finally:
        torch.set_num_threads(n_threads)


def n_cores() -> int:
    """Count the cores that this process may use."""
    # Not every system tells which cores a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
