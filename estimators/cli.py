"""The command line: ``consilience audit`` and ``consilience demo``."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from theory import PanelError

_KEYWORDS = "truth_column|truth|task|layout|specialists|specialist|sample|answer|probabilities|abstain"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0 on success; 2 for bad input, told in one line on standard error; 130 after an interrupt.

    Examples
    --------
    >>> main(["audit", "no-such-file.csv"])
    2
    """
    options = _parser().parse_args(argv)
    import scipy.linalg  # noqa: F401 - its BLAS must be loaded before it can be limited
    from threadpoolctl import threadpool_limits

    try:
        # Panels are tall and narrow: a second BLAS thread made the models of the digits 30 times slower.
        with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
            warnings.showwarning = _one_line
            _check_outputs(options)
            return int(options.run(options))
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (PanelError, OSError, ImportError) as error:
        return _refuse(str(error))
    except MemoryError:
        return _refuse("out of memory; lower --max-samples, or give fewer specialists with --specialists.")
    except KeyboardInterrupt:
        print("consilience: stopped", file=sys.stderr)
        return 130


def _refuse(text: str) -> int:
    # The reader names its keywords; who types a command line needs the options.
    text = re.sub(rf"\b({_KEYWORDS})=(?=(\w|'|\")?)", _as_option, " ".join(text.split()))
    print(f"consilience: error: {text}", file=sys.stderr)
    return 2


def _as_option(found: re.Match[str]) -> str:
    return f"--{found[1].replace('_', '-')}" + (" " if found[2] else "")


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    print(f"consilience: note: {' '.join(str(message).split())}", file=sys.stderr)


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse places that cannot be written to before the work, not after it."""
    for name in ("html", "json"):
        place = getattr(options, name)
        if place is None or place == "-":
            continue
        folder = Path(place).expanduser().absolute().parent
        if not folder.is_dir():
            raise PanelError(f"--{name}: there is no folder {folder}. Make it first.")
        if Path(place).is_dir() or not os.access(folder, os.W_OK):
            raise PanelError(f"--{name}: {place} cannot be written. Name a file in a folder of yours.")
    if options.html is not None:
        from importlib.util import find_spec

        if find_spec("jinja2") is None or find_spec("matplotlib") is None:
            raise PanelError("--html needs matplotlib and jinja2: pip install 'consilience[report]'")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are."""

    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="consilience",
        description="Fuse the answers of many specialists robustly, and say what each of them is worth.",
    )
    parser.add_argument("--version", action="version", version=f"consilience {version('consilience')}")
    commands = parser.add_subparsers(dest="command", required=True)

    audit = commands.add_parser(
        "audit",
        help="audit a panel from a file",
        description="Read what specialists answered and what was right; print how correlated their errors are, "
        "which fusion to use and what each specialist is worth.",
    )
    audit.add_argument("panel", type=Path, help="CSV (long or wide), Parquet, npz or NetCDF file")
    audit.add_argument("--truth", help="column, array or variable of the same file, or another file")
    audit.add_argument("--truth-column", help="column of the truth in another file")
    audit.add_argument(
        "--task", choices=("labels", "probabilities", "numbers"), help="default: by the values"
    )
    audit.add_argument("--layout", choices=("long", "wide"), help="of a table; default: by its columns")
    audit.add_argument("--specialists", help="names to use, with commas between")
    audit.add_argument("--sample", help="column or dim of the samples")
    audit.add_argument("--specialist", help="column or dim of the specialists, in a long table")
    audit.add_argument("--answer", help="column or variable of the answers")
    audit.add_argument("--probabilities", help="columns of a long table, one per class, with commas between")
    audit.add_argument("--abstain", default="", help="labels that mean an abstention, with commas between")
    audit.set_defaults(run=_audit)

    demo = commands.add_parser(
        "demo",
        help="audit a real panel that comes with the project",
        description="Audit a panel of language models where the project is checked out, or of classifiers "
        "trained on six views of handwritten digits elsewhere.",
    )
    demo.add_argument(
        "--panel", choices=("auto", "mmlupro", "cruxeval", "mathl5", "gsm8k", "digits"), default="auto"
    )
    demo.set_defaults(run=_demo)

    for command in (audit, demo):
        command.add_argument("--html", type=Path, help="write a self-contained report here")
        command.add_argument("--json", nargs="?", const="-", help="write JSON here, or to standard output")
        command.add_argument("--cv", type=_whole(2), default=5, help="folds (default %(default)s)")
        command.add_argument(
            "--liars", type=_numbers, default=(1, 2), help="numbers of liars to try (default 1,2; 0 for none)"
        )
        command.add_argument(
            "--withstand",
            type=_whole(0),
            default=0,
            help="liars that the recommended rule must be best against",
        )
        command.add_argument(
            "--drift-blocks", type=_whole(2), help="where samples are in order of time: blocks to compare"
        )
        command.add_argument(
            "--max-samples",
            type=_whole(4),
            default=50_000,
            help="audit at most so many (default %(default)s)",
        )
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--quiet", action="store_true", help="no tables and no progress bar")
    return parser


def _whole(least: int) -> Any:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}; got {value}")
        return value

    return convert


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({_whole(0)(part) for part in _listed(text)} - {0}))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _audit(options: argparse.Namespace) -> int:
    from estimators.readers import read_panel

    table = read_panel(
        options.panel,
        truth=options.truth,
        truth_column=options.truth_column,
        task=options.task,
        layout=options.layout,
        specialists=_listed(options.specialists) if options.specialists else None,
        sample=options.sample,
        specialist=options.specialist,
        answer=options.answer,
        probabilities=_listed(options.probabilities) if options.probabilities else None,
        abstain=tuple(_listed(options.abstain)),
    )
    panel, y, n_options = table.panel, table.y, table.n_options
    if n_options is not None and (y >= n_options).any():
        n_options = n_options + 1  # one more option: none of those shown is right
    title = Path(options.panel).name
    return _report(options, panel, y, n_options, table.names, table.task, title, notes=table.notes)


def _demo(options: argparse.Namespace) -> int:
    from estimators.datasets import llm_panel_names, load_llm_panel

    name = options.panel
    if name == "auto":
        try:
            load_llm_panel("mmlupro")
            name = "mmlupro"
        except FileNotFoundError:
            name = "digits"
    if name in llm_panel_names():
        panel = load_llm_panel(name)
        n_options = panel.n_options + int(panel.open)
        title = f"{name}: {panel.answers.shape[1]} language models, {panel.answers.shape[0]:,} questions"
        return _report(options, panel.answers, panel.gold, n_options, panel.specialist, "labels", title)
    answers, y, names = _digits()
    return _report(
        options, answers, y, None, names, "probabilities", "Handwritten digits: six views, six classifiers"
    )


_DIGIT_VIEWS = {
    "fou": "Fourier shapes",
    "fac": "profiles",
    "kar": "Karhunen-Loeve",
    "pix": "pixels",
    "zer": "Zernike moments",
    "mor": "morphology",
}


def _digits() -> tuple[Any, Any, list[str]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from estimators import RobustFusionClassifier, Specialist, Views, load_mfeat

    digits = load_mfeat()
    team = [
        (words, Specialist(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), view=name))
        for name, words in _DIGIT_VIEWS.items()
    ]
    fitted = RobustFusionClassifier(team, random_state=0).fit(Views(digits.views), digits.y)
    return fitted.oof_panel_.values, digits.y, [name for name, _ in team]


def _report(
    options: argparse.Namespace,
    panel: Any,
    y: Any,
    n_options: Any,
    names: Any,
    task: str,
    title: str,
    notes: Sequence[str] = (),
) -> int:
    from estimators.audit import PanelAudit
    from estimators.report import audit_to_dict, audit_to_text, render

    started = time.perf_counter()
    loud = not options.quiet and options.json != "-"
    audit = PanelAudit(
        task=task,
        cv=options.cv,
        n_byzantine=options.liars,
        withstand=options.withstand,
        drift_blocks=options.drift_blocks,
        max_samples=options.max_samples,
        random_state=options.seed,
        verbose=not options.quiet and sys.stderr.isatty(),
    )
    audit.fit(panel, y, n_options=n_options, names=list(map(str, names)))
    if loud:
        print(title)
        for note in notes:
            print(f"- {note}")
        print()
        print(audit_to_text(audit))
    if options.json:
        data = {"title": title, "notes": list(notes), **audit_to_dict(audit)}
        text = json.dumps(data, allow_nan=False, indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.html:
        Path(options.html).write_text(render(audit, title=title, notes=notes), encoding="utf-8")
        if loud:
            print(f"Report: {options.html}")
    if loud:
        print(f"Audited in {time.perf_counter() - started:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
