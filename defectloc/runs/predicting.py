"""New images by a finished run: one after the other into tables and overlays, in any number."""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from defectloc.config import PredictSettings
from defectloc.data.image_names import ImageNames, named_by, require_some
from defectloc.data.images import OVERLAYS
from defectloc.data.watching import Watcher
from defectloc.deployment.exported_model import ExportedModel
from defectloc.deployment.files import is_exported
from defectloc.errors import DefectlocError
from defectloc.files import lock
from defectloc.inference.overlays import write_overlay
from defectloc.inference.photograph_model import LARGE, PhotographModel
from defectloc.inference.prediction import UNLIKE, Prediction
from defectloc.inference.reading import Read, batches, read, read_ahead, watched
from defectloc.inference.results import FORMATS, Named, Results
from defectloc.model import device as devices
from defectloc.progress import images_bar
from defectloc.runs.directory import LOCK, Run
from defectloc.runs.predictor import Predictor
from defectloc.signals import stop_on_signal

# The most threads that predict on a processor, each its own photographs, and the pixels of the network's input from
# which one predicts alone: a large input keeps all cores busy, and takes its memory once.
WORKERS, LARGE_INPUT = 4, 2**18
# The most threads that paint overlays.
PAINTERS = 4


def run(settings: PredictSettings) -> Path:
    """Predict images in their order; gives the table of them.

    What cannot be read is named and left out, and raises at the end. A stop (SIGINT, SIGTERM) ends the batch at work;
    of a watched folder that is the end, of others KeyboardInterrupt is raised, and `resume` goes on.
    """
    folder = Path(settings.run).expanduser()
    finished = None if is_exported(folder) else Run.open(folder)
    output = Path(settings.output).expanduser()
    names = named_by(settings.images, output / OVERLAYS)
    if settings.watch and not names.is_folder:
        raise DefectlocError(f"watch=true follows a folder; images={settings.images} is none.")
    if not settings.watch:
        require_some(names, settings.images)
    predictor: PhotographModel
    sharing: AbstractContextManager[int] = nullcontext(1)
    if finished is None:
        predictor = ExportedModel(folder, str(settings.device), settings.threads)
    else:
        device = devices.choose(settings.device)
        devices.prepare(device, settings.threads)
        predictor = Predictor(finished, device)
        # In a watched folder a single photograph is to be ready soon.
        if device == "cpu" and not settings.watch and predictor.is_small(LARGE_INPUT):
            sharing = devices.shared_by(min(WORKERS, settings.batch_size))
    identity = {
        "run": predictor.identity,
        "images": str(names.base.resolve()),
        "format": str(settings.format),
        "overlays": settings.overlays,
    }
    with lock(output / LOCK, f"the same output ({output})"), stop_on_signal() as stop:
        results = FORMATS[settings.format](output, identity, settings.resume)
        n_painters = min(PAINTERS, settings.threads or devices.n_cores())
        with (
            results,
            ThreadPoolExecutor(n_painters) as painters,
            sharing as n_workers,
            ThreadPoolExecutor(n_workers) as workers,
        ):
            work = _Work(settings, names, predictor, results, output / OVERLAYS, painters, workers, n_workers, stop)
            work.run()
        if work.is_stopped and not settings.watch:
            print(f"stopped after {results.n_images} images; resume=true goes on with the others", file=sys.stderr)
            raise KeyboardInterrupt
        results.finish()
    work.report()
    return results.path


@dataclass
class _Work:
    """The way of all images from their names to the result."""

    settings: PredictSettings
    names: ImageNames
    predictor: PhotographModel
    results: Results
    overlays: Path
    painters: ThreadPoolExecutor
    workers: ThreadPoolExecutor
    n_workers: int
    stop: threading.Event
    n_new: int = 0
    n_unreadable: int = 0
    first_unreadable: str = ""
    first_unlike: str = ""
    n_distorted: int = 0
    first_distorted: str = ""
    is_stopped: bool = False
    seconds: float = 0.0
    _at_work: set[str] = field(default_factory=set)
    _watcher: Watcher | None = None

    def run(self) -> None:
        """Predict until there are no more images, or a stop is asked for."""
        started, size = time.monotonic(), self.settings.batch_size
        if self.settings.watch:
            self._watcher = Watcher(self.names, self.settings.settle, self._is_done)
            print(f"watching {self.names.base}; Ctrl-C ends it", file=sys.stderr, flush=True)
            named, total = watched(self._watcher, size, self.stop), None
        else:
            named, total = batches(self._left(), size), self._total()
        with images_bar("predicting", total) as advance:
            for batch in read_ahead(named, partial(read, self.names)):
                self._predict(batch)
                advance(len(batch))
                if self.stop.is_set():
                    self.is_stopped = True
                    break
        self.seconds = time.monotonic() - started

    def _is_done(self, name: str) -> bool:
        return name in self.results.done or name in self._at_work

    def _left(self) -> Iterator[str]:
        """Give the names of what is not in the result; one that is listed twice is given once."""
        for name in self.names:
            if not self._is_done(name):
                self._at_work.add(name)
                yield name

    def _total(self) -> int | None:
        """Count the images for the progress bar, where there is one."""
        return sum(1 for _ in self.names) - self.results.n_images if sys.stderr.isatty() else None

    def _predict(self, batch: list[Read]) -> None:
        whole = [each for each in batch if self._is_whole(each)]
        read_images = [each for each in whole if each.image is not None]
        images = [each.image for each in read_images if each.image is not None]
        found = self._found(images)
        named: list[Named] = [(each.name, one) for each, one in zip(read_images, found, strict=True)]
        if self.settings.overlays:
            # At once, since one picture keeps one core busy; large ones in turn, since each takes 60 bytes a pixel.
            in_turn = max((image.shape[0] * image.shape[1] for image in images), default=0) > LARGE
            list((map if in_turn else self.painters.map)(self._write_overlay, images, *zip(*named, strict=True)))
        self.results.add(named)
        self.n_new += len(named)
        for (name, prediction), image in zip(named, images, strict=True):
            if prediction.unlike_training and not self.first_unlike:
                self.first_unlike = name
            if self.predictor.distorts(image):
                self.n_distorted += 1
                self.first_distorted = self.first_distorted or name
        for each in whole:
            if each.image is None:
                self._refuse(each)
        for each in batch:
            self._at_work.discard(each.name)
            if self._watcher is not None:
                self._watcher.finish(each.name)

    def _found(self, images: list[NDArray[np.uint8]]) -> list[Prediction]:
        """Predict images, as many at once as there are workers."""
        size = max(1, -(-len(images) // self.n_workers))

        def predicted(start: int) -> list[Prediction]:
            return self.predictor.predict(images[start : start + size], size)

        return [one for part in self.workers.map(predicted, range(0, len(images), size)) for one in part]

    def _is_whole(self, each: Read) -> bool:
        """Tell whether a file is what was read; where a camera still writes it, it is read again later."""
        return self._watcher is None or self._watcher.is_unchanged(each.name)

    def _refuse(self, each: Read) -> None:
        if self.settings.strict:
            raise DefectlocError(each.error)
        again = "" if self._watcher is None else "; it is read again once it changes"
        print(f"skipped: {each.error}{again}", file=sys.stderr, flush=True)
        self.n_unreadable += 1
        self.first_unreadable = self.first_unreadable or each.error
        if self._watcher is not None:
            self._watcher.refuse(each.name)

    def _write_overlay(self, image: NDArray[np.uint8], name: str, found: Prediction) -> None:
        write_overlay(self.overlays, name, image, found, self.predictor.scale)

    def report(self) -> None:
        """Print what was found; raises DefectlocError where images could not be read."""
        results, decision = self.results, self.predictor.decision
        n_good = results.n_images - results.n_predicted - results.n_review - results.n_unlike
        low, limit = decision.threshold.probability, decision.defective_above.probability
        review = f"{results.n_review} to review (above {low:.3f}), " if results.n_review else ""
        unlike = f", {results.n_unlike} {UNLIKE}" if results.n_unlike else ""
        rate = f"{self.n_new / self.seconds:.1f}" if self.n_new and self.seconds else "0"
        new = "" if self.n_new == results.n_images else f"{self.n_new} of them new, "
        print(
            f"{results.n_images} images: {results.n_predicted} predicted defective (probability above {limit:.3f}), "
            f"{review}{n_good} good{unlike}; {new}{rate} images/s; {results.path}"
        )
        if results.n_unlike:
            first = f", the first now: {self.first_unlike}" if self.first_unlike else ""
            print(
                f"note: {results.n_unlike} images are unlike the training photographs (unlike_training = 1{first}): "
                "another part, another camera or light, or a covered lens? They have no probability and no boxes.",
                file=sys.stderr,
            )
        if self.n_distorted:
            print(
                f"note: {self.n_distorted} of the {self.n_new} images have another aspect ratio than the training "
                f"photographs, the first: {self.first_distorted}. The network sees them distorted; crop them alike.",
                file=sys.stderr,
            )
        if self._watcher is not None:
            self.n_unreadable = self._watcher.n_refused
        if self.n_unreadable:
            n = self.n_new + self.n_unreadable
            raise DefectlocError(
                f"{self.n_unreadable} of {n} images could not be read and were skipped, the first: "
                f"{self.first_unreadable}"
            )
