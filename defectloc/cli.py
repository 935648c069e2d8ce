"""Start-up of every command: finding it, error sentences, exit codes."""

import difflib
import errno
import importlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from defectloc import __version__, checks, config, launchers, usage
from defectloc.arguments import flags_first, quote_paths
from defectloc.errors import DefectlocError, InterruptedJobError, SweepError
from defectloc.signals import REQUEUE, Preempted, preemptible

# Commands that fit, and so go on where a scheduler has stopped them.
PREEMPTIBLE = ("train", "tune")


def main() -> None:
    """`defectloc <command> key=value ...` equals `python -m defectloc.<command> key=value ...`."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:
        print(f"defectloc {__version__}")
    elif not arguments or arguments[0] in ("-h", "--help"):
        print(usage.of_all())
    elif arguments[0] not in usage.COMMANDS:
        close = difflib.get_close_matches(arguments[0], usage.COMMANDS, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        fail(f"'{arguments[0]}' is no command of defectloc; there are {', '.join(usage.COMMANDS)}.{hint}")
    else:
        sys.argv = [f"defectloc {arguments[0]}", *arguments[1:]]
        importlib.import_module(f"defectloc.{arguments[0]}").main()


def run_command(name: str, task: str | Callable[[Any], Any]) -> None:
    """Compose the configuration `name`, check it, and hand it to `task`; exit code 2 after an error for people.

    A task named "module:function" is imported once the configuration is valid, so that errors come before torch.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra then raises instead of printing, and the sentence is made here.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    config.register()
    launchers.make_plugins_known()
    # Hydra loads its plugins with the filters of that time, and puts them back.
    warnings.filterwarnings("ignore", message=launchers.REPLACED)
    sys.argv = [sys.argv[0], *flags_first(quote_paths(sys.argv[1:]))]
    errors: list[Exception] = []
    listening = preemptible if name in PREEMPTIBLE else nullcontext

    def start(composed: DictConfig) -> Any:
        if name != "explain" and HydraConfig.get().runtime.choices.get("model") == "torchvision":
            others = ", ".join([*config.Backbone, "timm"])
            raise DefectlocError(f"model=torchvision is for 'explain' only; choose one of {others}.")
        settings = checks.typed(composed)
        if not isinstance(task, str):
            return task(settings)
        module, _, function = task.partition(":")
        # Of a job in a process of its own; from here on, since it takes a while to load torch.
        with listening():
            run = getattr(importlib.import_module(module), function)
            if name == "train" and HydraConfig.get().mode == RunMode.MULTIRUN:
                noted = importlib.import_module("defectloc.runs.sweeping.finished").noted
                return noted(Path(HydraConfig.get().runtime.output_dir), settings, run)
            return run(settings)

    def job(composed: DictConfig) -> Any:
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            try:
                return start(composed)
            except Exception as error:
                # Not raised here, since Hydra would print all overrides above the sentence.
                errors.append(error)
                return None
        return _job_of_sweep(composed, start)

    job.__module__ = f"defectloc.{name}"  # the name Hydra gives to the job
    application = hydra.main(version_base="1.3", config_path=str(config.directory()), config_name=name)(job)
    try:
        _refuse_additions(name)
        if any(argument in ("-h", "--help") for argument in sys.argv[1:]):
            usage.show(name, [argument for argument in sys.argv[1:] if not argument.startswith("-")])
            return
        with listening():
            application()
        if errors:
            raise errors[0]
    except KeyboardInterrupt:
        print(f"interrupted{'; the same command goes on' if name in PREEMPTIBLE else ''}", file=sys.stderr)
        sys.exit(130)
    except Preempted as stop:
        print(stop, file=sys.stderr)
        raise
    except SweepError as failed:
        _list(failed, wants_traceback)
    except Exception as error:
        text = sentence(error)
        if wants_traceback or text is None:
            raise
        fail(text)


def _job_of_sweep(composed: DictConfig, start: Callable[[DictConfig], Any]) -> Any:
    """Run one job, and leave its sentence in its folder if it fails."""
    launcher = HydraConfig.get().launcher
    note = Path(HydraConfig.get().runtime.output_dir) / "error.txt"
    note.unlink(missing_ok=True)
    try:
        if "threads" in composed and composed.threads is None:
            composed.threads = launchers.threads_of_job(launcher)
        return start(composed)
    except Preempted as stop:
        if launchers.is_in_turn(launcher) or launchers.is_process_of_its_own(launcher):
            raise
        # To end a process of a pool would end the sweep.
        error: Exception = InterruptedJobError(str(stop))
    except Exception as caught:
        error = caught
        if sentence(error) is None and not launchers.is_in_turn(launcher):
            # It does not go from process to process.
            traceback.print_exc()
    overrides = " ".join(HydraConfig.get().overrides.task)
    note.write_text(f"{overrides}: {sentence(error) or repr(error)}\n", encoding="utf-8")
    raise error


def _list(failed: SweepError, wants_traceback: bool) -> None:
    """Name the jobs that failed, and leave with exit code 2, or 75 where all were only asked to stop."""
    lines = [f"{overrides}: {sentence(error) or repr(error)}" for overrides, error in failed.failures]
    listed = f"{len(lines)} of the jobs failed:\n  " + "\n  ".join(lines)
    for _, error in failed.failures:
        if wants_traceback or sentence(error) is None:
            print(listed, file=sys.stderr)
            raise error
    fail(listed, REQUEUE if all(isinstance(error, InterruptedJobError) for _, error in failed.failures) else 2)


def _refuse_additions(name: str) -> None:
    """Refuse `--key=value`, lists of options, and `+key=value` for a key that the schema lacks.

    Hydra would add the latter without effect, and end in a traceback where a list does not hold names.
    """
    known = config.leaves(config.SETTINGS[name])
    groups = {folder.name for folder in config.directory().iterdir() if folder.is_dir()}
    for argument in sys.argv[1:]:
        key, _, value = argument.lstrip("+-").partition("=")
        if key in groups and value.lstrip().startswith("["):
            raise DefectlocError(f"{key} takes the name of one option (--help lists them), not a list.")
        if argument.startswith("--") and "=" in argument and (key in known or key == "data" or "." in key):
            raise DefectlocError(f"{argument}: keys are written without dashes, {argument.lstrip('-')}.")
        if argument.startswith("+") and not key.startswith("hydra") and key not in known:
            raise DefectlocError(f"'{key}' is not a key of this command (--help lists them).{_close_key(key)}")


def fail(text: str, code: int = 2) -> None:
    """Print `text` to standard error and leave with an exit code."""
    print(f"error: {text}", file=sys.stderr)
    sys.exit(code)


def sentence(error: BaseException) -> str | None:
    """Say in one line what an error means to the user, or None where it is a fault of the program."""
    if isinstance(error, DefectlocError):
        # A worker process of a DataLoader hands its sentence on at the end of a traceback.
        # What it quotes of another library may have several lines.
        return " ".join(str(error).rpartition("DefectlocError: ")[2].split())
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _hydra_sentence(error)
    if isinstance(error, ValueError) and "Config group override" in str(error):
        return f"{error}: a group such as model or data takes the name of one of its options."
    if isinstance(error, OverflowError) and (key := re.search(r"full_key: (\S+)", str(error))):
        return f"the value of {key[1]} is too large for a number."
    return _system_sentence(error) if isinstance(error, OSError) else None


def _system_sentence(error: OSError) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space is left for {error.filename or 'the output'}; free some or choose another folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.filename} cannot be written or read: {error.strerror}; choose another folder."
    if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        name = str(error.filename)
        shown = name if len(name) < 200 else f"{name[:80]}...{name[-20:]}"
        return f"{shown} cannot be used as a path: {error.strerror}."
    return None


def _hydra_sentence(error: BaseException) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{group}={choice} is not known; choose one of {', '.join(error.options)}."
    if isinstance(error, OverrideParseException):
        if "=" in error.override:
            problem = "cannot be parsed; quote the value once more inside the shell's: \"key='value'\""
        else:
            problem = "is not of the form key=value, without spaces around the ="
        return f"'{error.override}' {problem}."
    several = re.search(r"Ambiguous value for argument '([^']*)'", str(error))
    if several:
        return f"{several[1]} gives several values; add -m to run one after the other."
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    # Hydra spreads one message over many lines; the first says what, the rest how to force it.
    lines = [line.strip() for line in f"{error}\n{cause}".splitlines() if line.strip()]
    choices = re.search(r"Invalid value '(.*)', expected one of \[(.*)\]", "\n".join(lines))
    if choices:
        full_key = re.search(r"full_key: (\S+)", "\n".join(lines))
        return f"{full_key[1] if full_key else 'a key'}={choices[1]} is not known; choose one of {choices[2]}."
    option = re.search(r"In '(\w+)/(\w+)': ConfigKeyError", lines[0])
    if option:
        return f"{option[1]}={option[2]} is not an option of this command (--help lists them)."
    text = lines[0].removeprefix("Error merging override ")
    for line in lines[1:]:
        if re.match(r"(Value|Key|Cannot|Invalid|Available|field)", line) and line not in text:
            text = text.rstrip(":") + f": {line}"
            break
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        # A group of another command is close to its own keys, which this one does not have either.
        of_another = "No match in the defaults list" in " ".join(lines)
        text = f"'{key[1]}' is not a key of this command (--help lists them).{'' if of_another else _close_key(key[1])}"
        if not of_another and "Key" not in " ".join(lines):
            text = f"{key[1]}: {lines[1] if len(lines) > 1 else lines[0]}"
    if re.search(r"missing value|Missing mandatory", text, re.IGNORECASE):
        name = re.search(r"(?:value: |key )'?([\w.]+)", text)
        text = f"'{name[1] if name else 'a key'}' is not given; type it as key=value on the command line."
    return text


def _close_key(key: str) -> str:
    known = sorted({name for schema in config.SETTINGS.values() for name in config.leaves(schema)})
    # Of another command it may be a key.
    close = [] if key in known else difflib.get_close_matches(key, known, 1)
    return f" Did you mean {close[0]}?" if close else ""


if __name__ == "__main__":
    main()
