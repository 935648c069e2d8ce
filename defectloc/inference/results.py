"""The result files of `predict`, which grow image by image; those that are not finished have `partial` in their name.

A prediction is in the result once its record in `predictions` is whole. Boxes are written before it, so that what a
killed process has left of them is what has no record, at the end.
"""

import contextlib
import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from defectloc.config import ResultFormat
from defectloc.data.images import PREDICTED
from defectloc.errors import DefectlocError
from defectloc.files import refusal, write_json
from defectloc.inference import leftovers
from defectloc.inference.coco import IMAGES, RESULTS, write_coco
from defectloc.inference.journal import Journal, records
from defectloc.inference.leftovers import BOXES, CSV_TABLE, JSON_TABLE, TABLES, Written, partial_path
from defectloc.inference.name_index import NameIndex
from defectloc.inference.prediction import Prediction
from defectloc.inference.rows import COLUMNS, box_rows, csv_text, json_object, row
from defectloc.localization.boxes import COLUMNS as BOX_COLUMNS
from defectloc.localization.decision import REVIEW

# A name of a file and its prediction.
Named = tuple[str, Prediction]


class Results(ABC):
    """The result in a folder: a table of images, `done` by name, and how many are of which kind.

    As a context it is open for more. Without `finish` the files stay partial, to be resumed.
    """

    main: str
    others: Sequence[str] = ()
    # Made of the others once these are whole.
    made: Sequence[str] = ()

    def __init__(self, output: Path, identity: dict[str, Any], resume: bool) -> None:
        """`identity` is plain content that says what the result is of; `overlays` in it: each image has one.

        What an earlier call has left there is removed: an unfinished result now, a finished one by `finish`. Raises
        DefectlocError where what is resumed is of something else, or not as it was written.
        """
        self.output, self.done = output, NameIndex()
        self.n_images = self.n_predicted = self.n_review = self.n_unlike = 0
        self._identity, self._before = identity, Written.read(output)
        try:
            written = self._taken_up() if resume else None
            if written is None:
                self._before.drop_unfinished(output)
                self._partial(self.main).unlink(missing_ok=True)
            self._journals = {name: Journal(self._partial(name), (written or {}).get(name, 0)) for name in self._names}
        except OSError as error:
            raise refusal(error, output) from error
        if written is None:
            self._begin()
            # Once the older result is out of the way, so that it cannot pass as one of this identity.
            self._record({*self._before.files, *self._files}, self._before.painted)

    def _record(self, files: Iterable[str], painted: Iterable[str]) -> None:
        """Write what the result is of, which files are not the user's own, and which finished tables have overlays."""
        content = {"files": sorted(files), "painted": list(painted)}
        write_json(self.output / PREDICTED, self._identity | content)

    def __enter__(self) -> "Results":
        """Give the result itself."""
        return self

    def __exit__(self, *of_error: Any) -> None:
        """Bring all to the disk."""
        with contextlib.ExitStack() as stack:
            for journal in self._journals.values():
                stack.push(journal)

    @property
    def path(self) -> Path:
        """Give the finished table of images."""
        return self.output / self.main

    @property
    def _names(self) -> list[str]:
        """List the files in the order in which they are written."""
        return [*self.others, self.main]

    @property
    def _files(self) -> list[str]:
        """List all files of a finished result."""
        return [*self._names, *self.made]

    def _partial(self, name: str) -> Path:
        return partial_path(self.output / name)

    def _taken_up(self) -> dict[str, int] | None:
        """Read what is there, as `_read` does, and make partial files of it; None where there is nothing.

        An unfinished result is newer than a finished one. What cannot be resumed stays as it is.
        """
        partial = self._partial(self.main)
        files = {self.main: partial if partial.exists() else self.path}
        others = [self.output / name for name in self._before.files if name in TABLES and name != self.main]
        is_other = not files[self.main].exists()
        if is_other and not any(path.exists() or partial_path(path).exists() for path in others):
            return None
        for name in self.others:
            # A process may have been killed between renaming these and renaming the table of images.
            is_partial = partial.exists() and self._partial(name).exists()
            files[name] = self._partial(name) if is_partial else self.output / name
        leftovers.refuse_another(self.output, self._identity, is_other)
        try:
            written = self._read(files)
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise DefectlocError(
                f"the predictions in output={self.output} cannot be resumed ({error}); resume=false replaces them."
            ) from error
        if written is not None:
            self._make_partial(files)
        return written

    def _make_partial(self, files: dict[str, Path]) -> None:
        for name in self.others:
            if files[name] != self._partial(name):
                # What is left of another start must not pass for its boxes.
                self._partial(name).unlink(missing_ok=True)
        for name, path in files.items():
            path.replace(self._partial(name))

    def add(self, batch: Iterable[Named]) -> None:
        """Append predictions."""
        named = list(batch)
        self._write(named)
        for name, found in named:
            self._count(name, found.predicted == 1, found.verdict, found.unlike_training is True)

    def _count(self, name: str, predicted: bool, verdict: str, unlike: bool) -> None:
        if not self.done.add(name):
            raise ValueError(f"{name} stands in it twice")
        self.n_images += 1
        # An image unlike all others is neither a good part nor a defective one, and one to review is not decided.
        is_review = verdict == REVIEW
        self.n_predicted += predicted and not unlike and not is_review
        self.n_review += is_review and not unlike
        self.n_unlike += unlike

    def finish(self) -> None:
        """Give the files, closed before, their names, the table of images last, and remove an older result."""
        paints, before = self._identity.get("overlays") is True, self._before
        try:
            # While the older tables say which overlays are theirs.
            older = [self.output / name for name in before.painted]
            leftovers.remove_overlays(self.output, older, lambda name: paints and name in self.done)
            for name in self._names:
                self._partial(name).replace(self.output / name)
            for name in set(before.files) - set(self._files):
                (self.output / name).unlink(missing_ok=True)
        except OSError as error:
            raise refusal(error, self.output) from error
        self._record(self._files, [self.main] if paints else [])

    @abstractmethod
    def _begin(self) -> None:
        """Write what stands before the first image."""

    @abstractmethod
    def _write(self, named: list[Named]) -> None:
        """Append predictions, the table of images last."""

    @abstractmethod
    def _read(self, files: dict[str, Path]) -> dict[str, int] | None:
        """Count the predictions in files by name; gives the bytes of each that are theirs, None without a head."""


class CsvResults(Results):
    """`predictions.csv`, a row per image, and `boxes.csv`, a row per box."""

    main, others = CSV_TABLE, (BOXES,)

    def _begin(self) -> None:
        self._journals[BOXES].write(csv_text([["path", *BOX_COLUMNS]]))
        self._journals[self.main].write(csv_text([COLUMNS]))

    def _write(self, named: list[Named]) -> None:
        boxes = [[name, *box.values()] for name, found in named for box in box_rows(found)]
        self._journals[BOXES].write(csv_text(boxes))
        self._journals[self.main].write(csv_text([row(name, found).values() for name, found in named]))

    def _read(self, files: dict[str, Path]) -> dict[str, int] | None:
        end, n_boxes = 0, 0
        for number, (text, at) in enumerate(records(files[self.main], quoted=True)):
            values = next(csv.reader(io.StringIO(text, newline="")))
            if len(values) != len(COLUMNS) or (number == 0) != (values == COLUMNS):
                raise ValueError(f"record {number} of {self.main} has other columns")
            if number:
                found = dict(zip(COLUMNS, values, strict=True))
                unlike = found["unlike_training"] == "1"
                self._count(found["path"], found["predicted"] == "1", found["verdict"], unlike)
                n_boxes += int(found["n_boxes"])
            end = at
        if end == 0:
            return None
        ends = [at for _, (_, at) in zip(range(n_boxes + 1), records(files[BOXES], True), strict=False)]
        if len(ends) <= n_boxes:
            raise ValueError(f"{BOXES} lacks some boxes")
        return {self.main: end, BOXES: ends[-1]}


class JsonResults(Results):
    """`predictions.jsonl`: a JSON object per line and image, its boxes inside."""

    main = JSON_TABLE

    def _begin(self) -> None:
        pass

    def _write(self, named: list[Named]) -> None:
        lines = [json.dumps(json_object(name, found), ensure_ascii=False, allow_nan=False) for name, found in named]
        self._journals[self.main].write("".join(f"{line}\n" for line in lines))

    def _read(self, files: dict[str, Path]) -> dict[str, int] | None:
        end = 0
        for text, at in records(files[self.main], quoted=False):
            found = json.loads(text)
            self._count(found["path"], found["predicted"] == 1, found["verdict"], found["unlike_training"] == 1)
            end = at
        return {self.main: end}


class CocoResults(JsonResults):
    """The same, and made of it at the end a list of COCO results with the images that it is of."""

    made = (RESULTS, IMAGES)

    def finish(self) -> None:
        """Write the COCO files from the lines, then give these their name."""
        write_coco(self._partial(self.main), self.output)
        super().finish()


FORMATS: dict[ResultFormat, type[Results]] = {
    ResultFormat.csv: CsvResults,
    ResultFormat.jsonl: JsonResults,
    ResultFormat.coco: CocoResults,
}
