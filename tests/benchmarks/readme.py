"""Fill the README's generated parts: `python tests/benchmarks/readme.py` (operators and demo).

The benchmark scripts fill their own tables through `fill`, with `--readme`.
"""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def fill(mark: str, text: str, readme: Path = README) -> None:
    """Put text between `<!-- mark -->` and `<!-- /mark -->`."""
    page = readme.read_text(encoding="utf-8")
    pattern = rf"(<!-- {re.escape(mark)} -->\n).*?(<!-- /{re.escape(mark)} -->)"
    if not re.search(pattern, page, re.S):
        raise SystemExit(f"{readme.name} has no marks <!-- {mark} --> and <!-- /{mark} -->")
    page = re.sub(pattern, lambda m: m[1] + text.strip("\n") + "\n" + m[2], page, flags=re.S)
    readme.write_text(page, encoding="utf-8")


def demo() -> str:
    """Give the first lines of `consilience demo` on the panel of 28 language models."""
    from estimators import PanelAudit, load_llm_panel
    from estimators.report.text import headline

    panel = load_llm_panel("mmlupro")
    audit = PanelAudit(n_byzantine=(), random_state=0)
    audit.fit(panel.answers, panel.gold, n_options=panel.n_options, names=list(panel.specialist))
    rows = headline(audit)
    wide, broad = (max(len(row[i]) for row in rows) for i in (0, 1))
    figures = "\n".join(f"{name.ljust(wide)}  {value.rjust(broad)}  {note}" for name, value, note in rows)
    words = "\n".join(f"- {text}" for text in audit.reasons_)
    return (
        f"What it finds about 28 language models on {audit.n_samples_:,} questions of MMLU-Pro:\n\n"
        f"```text\n{figures}\n```\n\n{words}"
    )


def main() -> None:
    from fusion import operator_table
    from fusion.mid import mid_operator_table

    fill("operators", operator_table())
    fill("operators:mid", mid_operator_table())
    fill("demo", demo())


if __name__ == "__main__":
    main()
