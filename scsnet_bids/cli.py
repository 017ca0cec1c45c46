"""The command line of the BIDS App: the only place that knows the environment and exit codes.

Heavy libraries are imported by the level that needs them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scsnet_bids.console import prepare_console
from scsnet_bids.errors import (
    BusyError,
    EmptySelectionError,
    InvalidDatasetError,
    NoDwiError,
    OutputError,
    ScsnetError,
    UsageError,
    listed,
)
from scsnet_bids.interruption import signals_that_interrupt
from scsnet_bids.options import Options, parse_options, refuse_absent_weights
from scsnet_bids.settings import B0

if TYPE_CHECKING:
    from scsnet_bids.jobs import Job
    from scsnet_bids.runs import DwiRun
    from scsnet_bids.workflows.execution import Limits

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : words after the program's name; those of the process by default

    Returns
    -------
    int, exit code (see ``errors.py``; 128 and its number for a signal, as a shell reports it)
    """
    prepare_console()
    try:
        with signals_that_interrupt() as came:
            options = parse_options(sys.argv[1:] if arguments is None else arguments)
            _prepare_process(options)
            with _refusals_explained(options):
                codes = [RUN_LEVEL[level](options) for level in options.levels]
    except ScsnetError as error:
        print(f"scsnet-bids: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("scsnet-bids: interrupted. The same command goes on from here.", file=sys.stderr)
        return 128 + came[0]
    return next((code for code in codes if code), 0)


@contextlib.contextmanager
def _refusals_explained(options: Options) -> Iterator[None]:
    """Say in a sentence what the system refuses where no other sentence foresees it."""
    try:
        yield
    except OSError as error:
        _log.info("The system refuses something here:", exc_info=True)
        raise _explain_refusal(error, options) from error
    except UnicodeEncodeError as error:
        found = error.object[max(error.start - 50, 0) : error.end + 50]
        raise UsageError(
            f"Names of files and folders must be UTF-8: found {found!a}. Rename it."
        ) from error


def _explain_refusal(error: OSError, options: Options) -> ScsnetError:
    """Say which place the system refuses and why; the exit code tells what the place is for."""
    if not isinstance(error.filename, str):
        return ScsnetError(f"Files and folders must be usable: the system refuses one ({error}).")
    place = Path(error.filename)
    kind: type[ScsnetError] = UsageError
    if place.is_relative_to(options.bids_dir):
        kind = InvalidDatasetError
    if any(place.is_relative_to(own) for own in (options.output_dir, options.work_dir)):
        kind = OutputError
    return kind(
        f"Files and folders must be usable: the system refuses {place} ({error.strerror}). "
        "Correct its name or permissions, or choose another."
    )


def _prepare_process(options: Options) -> None:
    """Let nothing call home, depend on the user's own configuration, or choose its own threads."""
    # Python looks for garbage while it ends: for a second, among all that the libraries hold.
    atexit.register(gc.freeze)
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(format="scsnet-bids: %(message)s", level=logging.WARNING)
    logging.getLogger("scsnet_bids").setLevel(level)
    # A notebook has its own way to show figures, which exists nowhere else.
    os.environ |= {"NO_ET": "1", "NIPYPE_NO_ET": "1", "MPLBACKEND": "Agg"}
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(options.omp_nthreads)
    # The home of a container or of an unknown user may not exist, or be another user's.
    if not os.access(os.environ.get("HOME", ""), os.R_OK | os.X_OK):
        os.environ.pop("HOME", None)
    cache = options.work_dir / ".cache"
    if "participant" not in options.levels:  # the group level has no work folder
        with contextlib.suppress(OSError):
            cache = Path(tempfile.mkdtemp(prefix="scsnet-bids-"))
            atexit.register(shutil.rmtree, cache, ignore_errors=True)
    for name in ("HOME", "MPLCONFIGDIR", "NIPYPE_CONFIG_DIR", "XDG_CACHE_HOME"):
        os.environ.setdefault(name, str(cache / name.lower()))


def _run_participants(options: Options) -> int:
    """Run the participant level and say what was done and where it lies."""
    from scsnet_bids import dataset, prior_results, summary, workspace
    from scsnet_bids.fsl import tools as fsl
    from scsnet_bids.report.page import report_participants

    if options.reports_only:
        return _rewrite_reports(options)
    _check_network(options)
    fsl.check_fsl(options.settings)
    found = _choose_runs(options)
    check = dataset.refuse_input_folder if options.dry_run else dataset.check_output_folder
    for folder in (options.output_dir, options.work_dir):
        check(folder, options.bids_dir)
    if not options.dry_run:
        workspace.need_temporary_folder(options.work_dir)
    good, left_out = _check(found, options)
    print(summary.describe_plan(good, left_out, options.settings), flush=True)
    failures = {run.prefix: error for run, error in left_out.items() if error.exit_code}
    if not good and not failures:
        raise NoDwiError("A diffusion series must have diffusion-weighted volumes: none here has.")
    if options.boilerplate_only:
        _write_boilerplate(good, options)
        return summary.exit_code(failures.values())
    if options.dry_run:
        return summary.exit_code(failures.values())
    others = prior_results.list_datasets(options.settings.derivatives.folders)
    dataset.write_dataset_files(options.output_dir, options.bids_dir, others)
    job = _describe_job(options)
    if good:
        failures |= _process(good, options, job, options.clean_workdir and not failures)
    errors = {run.prefix: left_out.get(run, failures.get(run.prefix)) for run in found}
    failures |= report_participants(options.output_dir, errors, job)
    chosen = [run for run in found if run in good or run.prefix in failures]
    print(summary.describe_result(chosen, failures, options.output_dir), flush=True)
    return summary.exit_code(failures.values())


def _check(found: list[DwiRun], options: Options) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Find every fault of every run, and of what is asked for, before any run is processed."""
    from scsnet_bids import fieldmaps, level_files, prior_results, run_checks, slice_marks
    from scsnet_bids.correction import denoising
    from scsnet_bids.fsl import tools as fsl

    settings = options.settings
    marks = slice_marks.read_marks(settings.regional.exclude_slices)
    slice_marks.check_marks(marks, found, options.bids_dir)
    checked = run_checks.check_runs(found, settings.gradients)
    checked = fieldmaps.skip_pairs(*checked, settings)
    checked = prior_results.check_prior(*checked, settings)
    checked = level_files.check_levels(*checked, settings.regional.levels)
    checked = denoising.check_runs(*checked, settings)
    return fsl.check_runs(*checked, settings)


def _write_boilerplate(runs: Sequence[DwiRun], options: Options) -> None:
    """Write the text to cite of what would be run, and say where it lies."""
    from scsnet_bids.methods import describe_methods
    from scsnet_bids.methods_text import write_citation
    from scsnet_bids.protocol import read_protocol

    protocols = {run.prefix: read_protocol(run, options.settings) for run in runs}
    methods = describe_methods([(_describe_job(options), protocols)])
    write_citation(options.output_dir / "logs", methods)
    print(f"Done: text to cite: {options.output_dir / 'logs' / 'CITATION.md'}; nothing was run.")


def _rewrite_reports(options: Options) -> int:
    """Write the pages again from the output folder, and say where they lie."""
    from scsnet_bids import summary
    from scsnet_bids.dataset import refuse_other_dataset
    from scsnet_bids.report.page import rewrite_pages

    refuse_other_dataset(options.output_dir)
    if options.settings.regional.exclude_slices:
        raise UsageError(
            "--exclude-slices changes values, and --reports-only computes none. Leave one of them "
            "out; with the same work folder the participant level goes on from what is done."
        )
    errors = rewrite_pages(options.output_dir, options.participant_label, _describe_job(options))
    failures = {name: error for name, error in errors.items() if error}
    print(summary.describe_pages(len(errors), failures, options.output_dir))
    return summary.exit_code(failures.values())


def _check_network(options: Options) -> None:
    """Raise for weights or a device that cannot be used, before anything is said or done."""
    own = options.settings.segmentation
    refuse_absent_weights(own)
    # A plan without wishes waits for no library to load.
    is_plan = options.dry_run or options.boilerplate_only
    second = own.input != B0 and own.dwi_weights
    if own.weights or second or own.device != "auto" or not is_plan:
        from scsnet_bids.network.weights import load_network, weights_path

        for sees in dict.fromkeys((B0, own.input)):
            load_network(own.device, weights_path(own, sees), sees)


def _describe_job(options: Options) -> Job:
    """Say what runs are processed with."""
    from scsnet_bids.jobs import Job
    from scsnet_bids.network.weights import read_record, weights_path

    def named(sees: str) -> dict[str, Any]:
        record = read_record(weights_path(options.settings.segmentation, sees))
        return {key: record[key] for key in ("version", "sha256") if key in record}

    sees = options.settings.segmentation.input
    weights = named(B0) | ({} if sees == B0 else {"dwi": named(sees)})
    return Job(options.settings, weights)


def _choose_runs(options: Options) -> list[DwiRun]:
    """Find the runs that the command line chooses."""
    from scsnet_bids import bids
    from scsnet_bids.prior_results import take_series

    filters = bids.read_filters(options.bids_filter_file) if options.bids_filter_file else None
    found = bids.find_runs(
        options.bids_dir, options.participant_label, options.session_label, filters
    )
    excluded = {label.removeprefix("sub-") for label in options.exclude_participant_label}
    kept = [run for run in found if run.participant not in excluded]
    if not kept:
        raise EmptySelectionError(
            "Some participant must remain: all that were chosen are excluded "
            f"({listed(sorted(excluded))}). Change --exclude-participant-label."
        )
    return take_series(kept, options.settings.derivatives.folders)


def _process(
    good: Sequence[DwiRun], options: Options, job: Job, clean: bool
) -> dict[str, ScsnetError]:
    """Process the good runs that no other job is processing; clean up if all goes well."""
    from scsnet_bids.files import remove_half_written, remove_leftovers
    from scsnet_bids.locks import claimed
    from scsnet_bids.runs import ENTITIES
    from scsnet_bids.workflows.base import run_folder
    from scsnet_bids.workspace import remove_results

    names = [run.prefix for run in good]
    with ExitStack() as claims:
        busy: dict[str, ScsnetError] = {}
        for folder in (options.output_dir, options.work_dir):
            for name in claims.enter_context(claimed(folder, names)):
                busy[name] = BusyError(
                    f"Only one job at a time may process a run: another one is processing {name} "
                    f"with the folder {folder}. Wait for it to end."
                )
        free = [run for run in good if run.prefix not in busy]
        for folder in (options.output_dir, options.output_dir / "logs"):
            remove_leftovers(folder)
        for run in free:
            participant = options.output_dir / f"sub-{run.participant}"
            remove_half_written(participant, run.prefix, ENTITIES)
        failures = busy | (_run_graph(free, options, job) if free else {})
        if clean and not failures:
            remove_results(options.work_dir, [run_folder(options.work_dir, run) for run in free])
    return failures


def _run_graph(runs: Sequence[DwiRun], options: Options, job: Job) -> dict[str, ScsnetError]:
    """Build, check and run the graph of some runs; what processes them is written down first."""
    from scsnet_bids.jobs import write_job
    from scsnet_bids.network.weights import choose_device
    from scsnet_bids.report import processed
    from scsnet_bids.workflows import base, execution, graph
    from scsnet_bids.workspace import refuse_foreign_results

    refuse_foreign_results(
        options.work_dir, [base.run_folder(options.work_dir, run) for run in runs]
    )
    needs_gb = {run.prefix: base.estimate_memory_gb(run, options.settings) for run in runs}
    limits = _choose_limits(options, len(runs), max(needs_gb.values()))
    device = choose_device(options.settings.segmentation.device)
    print(_describe_limits(limits, needs_gb, str(device)), flush=True)
    log_dir = options.output_dir / "logs"
    workflow = base.init_scsnet_wf(runs, options.output_dir, options.settings)
    graph.check_graph(workflow)
    names = {base.run_graph_name(run): run.prefix for run in runs}
    write_job(log_dir, job, options.command)
    processed.begin(options.output_dir, list(names.values()), job)
    return execution.process_runs(workflow, names, needs_gb, options.work_dir, log_dir, limits)


def _choose_limits(options: Options, n_runs: int, most_gb: float) -> Limits:
    """Take the limits that were asked for, or those of the job."""
    from scsnet_bids.resources import available_cpus, available_memory_gb
    from scsnet_bids.workflows.execution import PARENT_GB, Limits

    told = options.plugin.arguments
    memory_gb = options.mem_gb or told.get("memory_gb") or available_memory_gb()
    # A worker keeps most of the memory that it has ever used.
    n_workers = int(min(n_runs, max(1.0, (memory_gb - PARENT_GB) / most_gb)))
    return Limits(
        n_processors=options.nprocs
        or told.get("n_procs")
        or min(available_cpus(), n_workers * options.omp_nthreads),
        threads=options.omp_nthreads,
        memory_gb=memory_gb,
        stop_on_first_crash=options.stop_on_first_crash,
        verbosity=options.verbose,
        plugin=options.plugin,
    )


def _describe_limits(limits: Limits, needs_gb: Mapping[str, float], device: str) -> str:
    """Say with what the runs are processed, and warn where memory may not suffice."""
    run, most_gb = max(needs_gb.items(), key=lambda item: item[1])
    known = f"{limits.memory_gb:.1f} GB" if math.isfinite(limits.memory_gb) else "all"
    lines = [
        f"Using {limits.n_processors} processor{'s' if limits.n_processors > 1 else ''} and "
        f"{known} of memory; the network runs on {device}."
    ]
    if most_gb > limits.memory_gb:
        lines.append(
            f"Warning: {run} may need {most_gb:.1f} GB at a time. If the job is killed, give it "
            "more memory."
        )
    return "\n".join(lines)


def _run_group(options: Options) -> int:
    """Run the group level and say what was gathered, what is missing, and where it lies."""
    from scsnet_bids.group.collect import collect_group
    from scsnet_bids.group.exclusion import exclude_slices
    from scsnet_bids.group.page import write_group_page
    from scsnet_bids.group.tables import analyse_group, write_group
    from scsnet_bids.report.page import write_methods_of_all
    from scsnet_bids.slice_marks import read_marks

    if options.levels == ("group",):
        for name in ("participant_label", "session_label", "exclude_participant_label"):
            if getattr(options, name):
                print(
                    f"Warning: the group level gathers all that the output folder holds: "
                    f"--{name.replace('_', '-')} is not used.",
                    file=sys.stderr,
                )
    tables = collect_group(options.output_dir)
    for gap in tables.gaps.itertuples():
        whose = gap.run if isinstance(gap.run, str) else str(gap.participant_id)
        print(f"Missing: {whose}: {gap.reason}", file=sys.stderr)
    for line in tables.differences:
        print(f"Warning: the runs were not processed alike. {line}", file=sys.stderr)
    tables = exclude_slices(tables, read_marks(options.settings.regional.exclude_slices))
    analysis = analyse_group(tables, options.controls)
    write_group(options.output_dir, analysis)
    page = write_group_page(options.output_dir, analysis)
    if not write_methods_of_all(options.output_dir):
        print(
            "The methods text logs/CITATION.md is left as it is: of some run it is not known how "
            "it was acquired or processed.",
            file=sys.stderr,
        )
    counts = analysis.verdicts["verdict"].value_counts()
    verdicts = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("pass", "look", "fail"))
    n_runs, n_participants = len(analysis.wide), analysis.wide["participant_id"].nunique()
    print(
        f"Done: {n_runs} runs of {n_participants} participants gathered, by verdict {verdicts}. "
        f"Group page: {page}. Group tables: {options.output_dir / 'group_*.tsv'}"
    )
    return 0


RUN_LEVEL = {"participant": _run_participants, "group": _run_group}
