"""Boxes for a person to correct: of all images of a data set, in the files of an annotation tool."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from defectloc.config import AnnotateSettings, AnnotationFormat
from defectloc.data.labelme import RECORD
from defectloc.errors import DefectlocError
from defectloc.files import are_as_written, digest, lock, make_directory, read_json, refusal, sealed, write_json
from defectloc.runs.annotating.files import Origin, write_coco, write_label_studio
from defectloc.runs.annotating.folds import folds_of
from defectloc.runs.annotating.image_folders import write_labelme, write_yolo
from defectloc.runs.annotating.suggestions import Suggestion, suggestions_of, table_of
from defectloc.runs.directory import LOCK
from defectloc.runs.tables import write_csv

WRITERS: dict[AnnotationFormat, Callable[[Path, Sequence[Suggestion], Origin], list[str]]] = {
    AnnotationFormat.coco: write_coco,
    AnnotationFormat.labelstudio: write_label_studio,
    AnnotationFormat.yolo: write_yolo,
    AnnotationFormat.labelme: write_labelme,
}
# Of an output folder: where files are made, and what says which fold judged each image. Its record, with the checksums
# of its files, is written last.
UNFINISHED, TABLE = ".unfinished", "images.csv"


def run(settings: AnnotateSettings) -> Path:
    """Write boxes to correct; returns the folder.

    Raises DefectlocError where it is not clear which fits are meant, and for an output that holds anything else, boxes
    of other fits, or boxes that were corrected since.
    """
    _check_keys(settings)
    outputs = Path(settings.outputs).expanduser()
    output = Path(settings.output).expanduser() if settings.output else None
    output = output or outputs / settings.subset / "annotations" / str(settings.format)
    # Before the work, and before a lock file is left in a folder of something else.
    _old_files(output)
    folds = folds_of(outputs, settings.subset, settings.fingerprint, settings.localization_name)
    first = folds[0]
    fingerprint, localization = first.run.record["fingerprint"], first.folder.name
    origin = Origin(
        root=first.run.data_root(settings.root),
        setting=f"{fingerprint} {localization}",
        document_root=None if settings.document_root is None else Path(settings.document_root).expanduser(),
        copy=settings.copy,
    )
    made_of = _made_of(settings, outputs, origin)
    _refuse_others(output, made_of)
    numbers = ", ".join(str(fold.run.record["fold"]) for fold in folds)
    print(f"{settings.subset}: fit {fingerprint}, localization {localization}, folds {numbers}", file=sys.stderr)
    suggestions, untested = suggestions_of(folds, origin.root, settings.boxes_by)
    if untested:
        print(
            f"note: {len(untested)} images were tested by none of these folds, such as {untested[0]}, and are left out "
            f"({TABLE} lists them); fit the other folds.",
            file=sys.stderr,
        )
    with lock(output / LOCK, f"the same output ({output})"):
        old = _old_files(output)
        _refuse_others(output, made_of)
        hints = _write(output, old, settings.format, suggestions, untested, origin, made_of)
    for hint in hints:
        print(hint)
    n_boxes = sum(len(each.boxes) for each in suggestions)
    print(f"annotations: {output} ({len(suggestions)} images, {n_boxes} boxes)")
    return output


def _check_keys(settings: AnnotateSettings) -> None:
    if settings.document_root is not None and settings.format != AnnotationFormat.labelstudio:
        raise DefectlocError("document_root belongs to format=labelstudio.")
    if settings.copy and settings.format not in (AnnotationFormat.yolo, AnnotationFormat.labelme):
        raise DefectlocError("copy=true belongs to format=yolo and format=labelme; the others name the images only.")


def _old_files(output: Path) -> list[str]:
    """List what an earlier start has left at the top of a folder, by its record.

    Raises DefectlocError where anything there is not as it was written: corrected boxes are never replaced.
    """
    if not output.exists():
        return []
    there = sorted(path.name for path in output.iterdir() if path.name not in (LOCK, UNFINISHED))
    if not there:
        return []
    record = read_json(output / RECORD)
    files = (record or {}).get("files")
    if not isinstance(files, dict):
        raise DefectlocError(f"output={output} holds other files, such as {there[0]}; choose an empty folder.")
    found = {name for name in _files_below(output) if name != RECORD}
    # A name of another folder would lead out of this one.
    changed = [name for name in sorted(files) if name not in found or not are_as_written(output, {name: files[name]})]
    changed += sorted(found - files.keys())
    if changed:
        raise DefectlocError(
            f"output={output} was changed since it was written ({changed[0]}); boxes that were corrected there are not "
            "replaced: choose another output."
        )
    return sorted({name.partition("/")[0] for name in (*files, RECORD)})


def _made_of(settings: AnnotateSettings, outputs: Path, origin: Origin) -> dict[str, Any]:
    """Tell of which fits boxes are, and by which keys these were chosen."""
    asked = [str(outputs.absolute()), settings.fingerprint, settings.localization_name]
    return {"subset": settings.subset, "setting": origin.setting, "asked": asked}


def _refuse_others(output: Path, made_of: dict[str, Any]) -> None:
    """Raise DefectlocError where an output holds boxes of another subset, or of other fits that were asked for.

    The same command may replace its boxes once the folds were fitted or localised anew.
    """
    record = made_of | (read_json(output / RECORD) or {})
    is_same = {key: record[key] == value for key, value in made_of.items()}
    if not is_same["subset"] or not (is_same["setting"] or is_same["asked"]):
        raise DefectlocError(
            f"output={output} holds boxes of subset={record['subset']}, fit and localization {record['setting']}, "
            f"not of subset={made_of['subset']}, {made_of['setting']}; choose another output."
        )


def _write(
    output: Path,
    old: list[str],
    kind: AnnotationFormat,
    suggestions: Sequence[Suggestion],
    untested: Sequence[str],
    origin: Origin,
    made_of: dict[str, Any],
) -> list[str]:
    """Make all files aside and move them into place, the record last; returns what the user should know."""
    aside = output / UNFINISHED
    shutil.rmtree(aside, ignore_errors=True)
    make_directory(aside)
    try:
        hints = WRITERS[kind](aside, suggestions, origin)
        write_csv(aside / TABLE, table_of(suggestions, untested))
        files = {name: digest(aside / name) for name in _files_below(aside)}
        write_json(aside / RECORD, sealed({"format": str(kind), **made_of, "files": files}))
        for name in sorted(old, key=lambda each: each != RECORD):
            place = output / name
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        for path in sorted(aside.iterdir(), key=lambda each: each.name == RECORD):
            path.rename(output / path.name)
    except OSError as error:
        raise refusal(error, Path(error.filename or output)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return hints


def _files_below(folder: Path) -> list[str]:
    """List the files below a folder but for those that are its own business; links are what they lead to."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(path.as_posix() for path in found if path.parts[0] not in (LOCK, UNFINISHED))
