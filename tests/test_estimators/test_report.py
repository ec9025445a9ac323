"""The report: one self-contained page that is right, readable and the same every time."""

import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import PanelAudit
from estimators.leaderboard import default_fusions
from estimators.liars import lie_names
from estimators.report import audit_to_dict, audit_to_text, render
from estimators.report.plots import audit_plots, cluster_order
from estimators.report.ranges import make_scale
from estimators.report.words import lie_words, rule_words
from theory import difficulty_panel

NASTY = "<b>x</b>&\"'{{ 1 + 1 }}"


def audited(task, n_samples=150, n_specialists=5, **params):
    rng = np.random.default_rng(0)
    params = {"n_byzantine": (1,), "n_subsets": 4, "random_state": 0} | params
    names = [NASTY, *(f"specialist-{i}" for i in range(1, n_specialists))]
    if task == "labels":
        made = difficulty_panel(n_samples, n_specialists, accuracy=0.65, rho=0.3, n_options=4, seed=0)
        return PanelAudit(**params).fit(made.answers, made.y, names=names, n_options=4)
    y = rng.normal(size=n_samples)
    shared = rng.normal(size=(n_samples, 1)) * 0.4
    panel = (
        y[:, None]
        + shared
        + rng.normal(size=(n_samples, n_specialists)) * np.linspace(0.4, 1.5, n_specialists)
    )
    if task == "numbers":
        return PanelAudit(**params).fit(panel, y, names=names, costs=np.arange(1, n_specialists + 1))
    proba = 1.0 / (1.0 + np.exp(-2 * panel))
    return PanelAudit(**params).fit(np.stack([1 - proba, proba], axis=2), (y > 0).astype(int), names=names)


@pytest.fixture(scope="module", params=["labels", "probabilities", "numbers"])
def audit(request):
    return audited(request.param)


class Page(html.parser.HTMLParser):
    """Collect tags, attributes, visible text per section; complain about tags that do not close."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.text, self._open = [], [], [], [], []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            value for key, value in attrs if key in {"src", "href", "xlink:href", "action", "data"}
        ]
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self._open:
            self.text.append(data)


def test_nothing_comes_from_outside(audit):
    page = render(audit, title="A panel")
    assert (
        "http" not in page
        and "<script" not in page
        and "@import" not in page
        and "//" not in page.split("base64,")[0]
    )
    parsed = Page(page)
    assert not {"script", "link", "iframe", "img", "object", "embed", "form"} & set(parsed.tags)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in parsed.links)
    assert not re.search(r"\son\w+=", page)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_ids_are_unique_and_every_reference_has_its_target(audit):
    page = render(audit, title="A panel")
    ids = Page(page).ids
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page))
    assert {one or other for one, other in referred} <= set(ids)


def test_names_and_titles_are_text_and_never_markup(audit):
    page = render(audit, title=f"title {NASTY}", notes=[f"note {NASTY}"])
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;&amp;" in page
    text = "".join(Page(page).text)
    assert text.count(NASTY) >= 3
    assert f"title {NASTY}" in text and f"note {NASTY}" in text


def test_the_same_audit_gives_the_same_page(audit):
    assert render(audit, title="t") == render(audit, title="t")
    again = audited(audit.task_)
    assert render(again, title="t") == render(audit, title="t")


def test_the_page_shows_the_figures_of_the_audit(audit):
    page = render(audit, title="t")
    text = re.sub(r"\s+", " ", " ".join(Page(page).text))
    for rule, row in audit.leaderboard_.iterrows():
        assert rule in text and f"{row['score']:.3f}" in text
        assert rule_words(rule) in text and rule_words(rule)
    for name, value in zip(audit.prices_.names, audit.prices_.value, strict=True):
        assert name in text and f"{value:+.4f}" in text
    assert f"{audit.prices_.total:.4f}" in text
    assert f"{audit.error_correlation_.rho_mean:.3f}" in text
    assert f"{audit.effective_number_.value:.2f} by the variance seen" in text
    for sentence in (*audit.reasons_, *audit.findings_, *audit.warnings_):
        assert re.sub(r"\s+", " ", sentence) in text
    if audit.costs_ is not None:
        assert f"{audit.prices_.value[2] / audit.costs_[2]:+.4f}" in text


def test_plots_are_there_and_each_says_something_else(audit):
    plots = audit_plots(audit)
    assert set(plots) == {"correlation", "variance", "robustness", "deferral"}
    page = render(audit, title="t")
    for name, plot in plots.items():
        assert plot.startswith("<svg") and plot in page
        assert f'aria-label="{name}"' in plot
    assert page.count('class="whisker"') == len(audit.leaderboard_) + len(audit.names_)
    assert page.count('class="dot"') == len(audit.leaderboard_)
    without = audited(audit.task_, n_byzantine=())
    assert set(audit_plots(without)) == {"correlation", "variance", "deferral"}
    assert "If some of them lie" not in render(without, title="t")


def test_bars_lie_where_their_prices_say(audit):
    page = render(audit, title="t")
    table = page[page.index('<table class="prices">') :]
    rows = re.findall(
        r'class="zero" style="left:([\d.]+)%.*?class="bar (\w+)" style="left:([\d.]+)%;width:([\d.]+)%', table
    )
    values = np.sort(audit.prices_.value)[::-1]
    assert len(rows) == len(values)
    signed = []
    for zero, sign, left, width in rows:
        near, far = float(left), float(left) + float(width)
        assert float(zero) == pytest.approx(near if sign == "plus" else far, abs=0.02)
        signed.append(float(width) if sign == "plus" else -float(width))
    unit = signed[0] / values[0]
    assert np.allclose(np.array(signed), values * unit, atol=0.03)


def test_one_page_of_fifty_specialists_stays_small():
    audit = audited("labels", n_samples=300, n_specialists=50)
    page = render(audit, title="fifty")
    assert len(page.encode()) < 1_000_000
    assert all(f"specialist-{i}<" in page for i in range(1, 50))


def test_two_specialists_are_enough_for_a_page():
    page = render(audited("numbers", n_specialists=2), title="two")
    assert "Who errs with whom" in page


def test_json_holds_no_nan_and_every_figure(audit):
    data = json.loads(json.dumps(audit_to_dict(audit), allow_nan=False))
    assert [row["name"] for row in data["specialists"]] == list(audit.names_)
    assert sum(row["price"] for row in data["specialists"]) == pytest.approx(
        data["prices"]["total"], abs=1e-12
    )
    assert {row["rule"] for row in data["leaderboard"]} == set(audit.leaderboard_.index)
    assert np.allclose(np.array(data["error_correlation"]["matrix"]), audit.error_correlation_.value)
    assert data["recommended"] == audit.recommended_name_
    assert len(data["robustness"]) == len(audit.robustness_)


def test_text_holds_every_table_and_never_runs_wide(audit):
    text = audit_to_text(audit)
    for rule in audit.leaderboard_.index:
        assert rule in text
    for name in audit.names_:
        assert name in text
    assert f"sum of prices {audit.prices_.value.sum():.12f}" in text
    sentences = text[text.index("Recommendation") :]
    assert max(map(len, sentences.splitlines())) <= 100


def test_a_long_panel_is_shortened_in_text_only():
    audit = audited("labels", n_specialists=20)
    text = audit_to_text(audit, n_rows=8)
    table = text[text.index("What each specialist is worth") : text.index("sum of prices")]
    assert "... 12 more ..." in table and len(table.splitlines()) == 4 + 9


# --- parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["labels", "probabilities", "numbers"])
def test_every_rule_and_lie_of_an_audit_has_words(task):
    for name in default_fusions(task, 20):
        words = rule_words(name)
        assert words and "{" not in words, name
    assert all(lie_words(lie) for lie in lie_names(task))
    assert rule_words("somebody's own rule (2)") == rule_words("unknown") == ""


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_scales_hold_their_values_and_have_round_ticks(values):
    scale = make_scale(values)
    assert scale.low <= min(values) and scale.high >= max(values)
    assert 2 <= len(scale.ticks) <= 6
    places = [float(left.rstrip("%")) for left, _ in scale.ticks]
    assert places == sorted(places) and min(places) >= 0 and max(places) <= 100
    labels = [label for _, label in scale.ticks]
    assert len(set(labels)) == len(labels)
    for left, label in scale.ticks:
        value = scale.low + float(left.rstrip("%")) / 100 * (scale.high - scale.low)
        assert float(label) == pytest.approx(value, abs=2e-4 * (scale.high - scale.low))


def test_what_lies_beyond_a_scale_is_cut_off_at_its_end():
    scale = make_scale([-50.0, 0.2, 0.8], least=0.0)
    assert scale.at(-50.0) == "0.00%" and scale.at(99.0) == "100.00%"
    assert scale.span(-50.0, -40.0) == "left:0.00%;width:0.00%"
    assert make_scale([np.nan, 1.0, 2.0]).low < 1.0
    assert make_scale([]).ticks


def test_those_who_err_alike_stand_together():
    rng = np.random.default_rng(0)
    matrix = np.full((6, 6), 0.1) + rng.random((6, 6)) * 0.01
    for group in ((0, 3, 5), (1, 4)):
        matrix[np.ix_(group, group)] = 0.9
    np.fill_diagonal(matrix, 1.0)
    order = cluster_order(matrix).tolist()
    assert sorted(order) == list(range(6))
    places = {i: order.index(i) for i in range(6)}
    for group in ((0, 3, 5), (1, 4)):
        positions = sorted(places[i] for i in group)
        assert positions[-1] - positions[0] == len(group) - 1
    matrix[0, 1] = matrix[1, 0] = np.nan
    assert sorted(cluster_order(matrix)) == list(range(6))


# --- in a browser ------------------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome installed")
@pytest.mark.parametrize("width", [400, pytest.param(1100, marks=pytest.mark.slow)])
def test_it_renders_in_a_browser(tmp_path, width):
    from PIL import Image

    (tmp_path / "page.html").write_text(audited("labels", n_specialists=8).to_html(), encoding="utf-8")
    picture = tmp_path / "page.png"
    subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},4000",
         f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", (tmp_path / "page.html").as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    shot = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert shot.shape[1] == width
    colours = {tuple(pixel) for pixel in shot[::5, ::5].reshape(-1, 3)}
    assert len(colours) > 50
    assert (47, 109, 181) in {tuple(pixel) for pixel in shot.reshape(-1, 3)}  # the blue of dots and bars
    # Nothing is wider than the screen: the page's own background stays visible along its right edge.
    assert (np.abs(shot[:, -3] - [244, 246, 248]).max(axis=1) <= 2).mean() > 0.95
