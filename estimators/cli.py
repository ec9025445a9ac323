"""The command line: ``consilience audit`` and ``consilience demo``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from theory import PanelError


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
    try:
        return int(options.run(options))
    except (PanelError, FileNotFoundError, ImportError) as error:
        text = " ".join(str(error).split())
        print(f"consilience: error: {text}", file=sys.stderr)
        return 2
    except MemoryError:
        print("consilience: error: out of memory; lower --max-samples, or give fewer specialists.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("consilience: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    audit.add_argument("--task", choices=("labels", "probabilities", "numbers"), help="default: by the values")
    audit.add_argument("--layout", choices=("long", "wide"), help="of a table; default: by its columns")
    audit.add_argument("--specialists", help="names to use, with commas between")
    audit.add_argument("--sample", help="column or dim of the samples")
    audit.add_argument("--specialist", help="column or dim of the specialists, in a long table")
    audit.add_argument("--answer", help="column or variable of the answers")
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
            "--withstand", type=_whole(0), default=0, help="liars that the recommended rule must be best against"
        )
        command.add_argument(
            "--max-samples", type=_whole(4), default=50_000, help="audit at most so many (default %(default)s)"
        )
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--quiet", action="store_true", help="no tables and no progress bar")
    return parser


def _whole(least: int) -> Any:
    def convert(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    return convert


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(f for f in (int(part) for part in text.split(",") if part.strip()) if f > 0)


def _audit(options: argparse.Namespace) -> int:
    from estimators.readers import read_panel

    table = read_panel(
        options.panel,
        truth=options.truth,
        truth_column=options.truth_column,
        task=options.task,
        layout=options.layout,
        specialists=options.specialists.split(",") if options.specialists else None,
        sample=options.sample,
        specialist=options.specialist,
        answer=options.answer,
        abstain=tuple(label for label in options.abstain.split(",") if label),
    )
    if not options.quiet and options.json != "-":
        for note in table.notes:
            print(f"- {note}")
    panel, y, n_options = table.panel, table.y, table.n_options
    if n_options is not None and (y >= n_options).any():
        n_options = n_options + 1  # one more option: none of those shown is right
    return _report(options, panel, y, n_options, table.names, table.task, Path(options.panel).name)


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
    return _report(options, answers, y, None, names, "probabilities", "Handwritten digits: six views, six classifiers")


def _digits() -> tuple[Any, Any, list[str]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from estimators import RobustFusionClassifier, Specialist, Views, load_mfeat

    digits = load_mfeat()
    team = [
        (name, Specialist(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), view=name))
        for name in digits.views
    ]
    fitted = RobustFusionClassifier(team, random_state=0).fit(Views(digits.views), digits.y)
    return fitted.oof_panel_.values, digits.y, [name for name, _ in team]


def _report(
    options: argparse.Namespace, panel: Any, y: Any, n_options: Any, names: Any, task: str, title: str
) -> int:
    from estimators.audit import PanelAudit
    from estimators.report import audit_to_dict, audit_to_text

    started = time.perf_counter()
    loud = not options.quiet
    audit = PanelAudit(
        task=task,
        cv=options.cv,
        n_byzantine=options.liars,
        withstand=options.withstand,
        max_samples=options.max_samples,
        random_state=options.seed,
        verbose=loud and sys.stderr.isatty(),
    )
    audit.fit(panel, y, n_options=n_options, names=list(map(str, names)))
    if loud and options.json != "-":
        print(f"{title}\n")
        print(audit_to_text(audit))
    if options.json:
        text = json.dumps(audit_to_dict(audit), allow_nan=False, indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.html:
        audit.to_html(options.html, title=title)
        if loud and options.json != "-":
            print(f"Report: {options.html}")
    if loud and options.json != "-":
        print(f"Audited in {time.perf_counter() - started:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
