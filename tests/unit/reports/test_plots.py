from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest

from vcfbert.errors import InputError
from vcfbert.reports import drawing, plots

R2 = {
    "v18": {"0-0.5%": 0.1, "0.5-1%": 0.3, "1-5%": 0.5, "5-50%": 0.9, "all": 0.9},
    "beagle": {"1-5%": 0.56, "5-50%": 0.9},
}


def test_r2_by_bin_draws_one_line_per_method() -> None:
    (axes,) = plots.comparison(R2, {}).axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert lines == [([0, 1, 2, 3], [0.1, 0.3, 0.5, 0.9]), ([2, 3], [0.56, 0.9])]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0-0.5%", "0.5-1%", "1-5%", "5-50%"]
    assert {text.get_text() for text in axes.texts} == {"V18  0.900", "Beagle  0.900"}


def test_labels_of_equal_ends_do_not_overlap() -> None:
    figure = plots.comparison({name: {"5-50%": 0.9} for name in ("v17", "v18", "beagle", "minimac4")}, {})
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.5, 0.5, 0.56], [0.42, 0.52, 0.62]),
    ],
)
def test_spread_moves_labels_as_little_as_needed(places: list[float], expected: list[float]) -> None:
    assert drawing.spread(places, 0.1) == pytest.approx(expected)


def test_comparison_omits_panels_without_values() -> None:
    figure = plots.comparison(R2, {"F1": {"v18": 0.9}, "Refresh, s": {}, "Imputation, s": {"v18": 2.0, "beagle": 9.0}})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Aggregate dosage r² by allele frequency", "F1", "Imputation, s"]
    assert [patch.get_width() for patch in figure.axes[2].patches] == [2.0, 9.0]
    assert len(plots.comparison(R2, {}).axes) == 1


def test_comparison_with_unphased_targets_has_a_second_panel() -> None:
    unphased = {"v19": {"1-5%": 0.6, "5-50%": 0.92}}
    figure = plots.comparison(R2, {"F1": {"v18": 0.9}}, r2_unphased=unphased)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Dosage r², phased targets", "Dosage r², unphased targets", "F1"]
    assert [list(line.get_ydata()) for line in figure.axes[1].lines] == [[0.6, 0.92]]
    figure.draw_without_rendering()
    first, second = (axes.get_tightbbox() for axes in figure.axes[:2])
    assert first is not None
    assert second is not None
    assert second.y1 <= first.y0  # below, and nothing of one covers the other
    assert len(plots.comparison(R2, {}, r2_unphased={}).axes) == 1


def test_bars_and_calibration_show_given_values() -> None:
    axes = plots.comparison(R2, {"ms per batch": {"v17": 1520.0, "v18": 312.0}}).axes[1]
    assert [text.get_text() for text in axes.texts] == ["1,520", "312"]
    points = [{"predicted": 0.05, "observed": 0.04, "pairs": 9}, {"predicted": 0.95, "observed": 0.9, "pairs": 3}]
    (axes,) = plots.calibration({"v18": points, "v17": []}).axes
    assert list(axes.lines[1].get_ydata()) == [0.04, 0.9]


def test_training_curves_show_values_of_the_csv(tmp_path: Path) -> None:
    csv = tmp_path / "latest.csv"
    csv.write_text("epoch,train/loss,val/loss,val/f1,refresh/seconds\n0,0.5,0.6,,1\n1,0.4,0.5,0.9,1\n")
    loss, f1 = plots.training_curves({"v18": csv}).axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[0.5, 0.4], [0.6, 0.5]]
    assert (list(f1.lines[0].get_xdata()), list(f1.lines[0].get_ydata())) == ([1.0], [0.9])


@pytest.mark.parametrize("text", ["", "epoch\n0\n", "step,val/loss\n0,1\n", "epoch,val/loss\n0,high\n"])
def test_training_curves_of_another_file_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "latest.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        plots.training_curves({"v18": path})
    assert (caught.value.code, caught.value.where) == ("metrics_invalid", str(path))


def test_save_figure_writes_by_suffix_without_changing_global_settings(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for suffix in ("png", "svg"):
        drawing.save_figure(plots.comparison(R2, {}), tmp_path / f"r2.{suffix}")
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "r2.png").stat().st_size > 10_000
    assert "</svg>" in (tmp_path / "r2.svg").read_text()
    with pytest.raises(InputError, match="cannot write a figure"):
        drawing.save_figure(plots.comparison(R2, {}), tmp_path / "r2.bmp")


def test_paired_differences_without_interval_have_no_bar() -> None:
    drawn = {
        "v18": {"0-0.5%": (0.1, 0.05, 0.15), "all": (0.0, float("nan"), float("nan"))},
        "v19": {"all": (0.2, 0.1, 0.3)},
    }
    axes = plots.paired_differences(drawn, "v17").axes[0]
    bars = [line.get_ydata() for line in axes.lines if line.get_linewidth() == 2.2]
    assert [list(bar) for bar in bars] == [[0.05, 0.15], [0.1, 0.3]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0-0.5%", "all"]
    assert "V17" in axes.get_title(loc="left")


def test_quality_against_cost_shows_methods_with_both_values() -> None:
    figure = plots.quality_against_cost(
        {"r² all": {"v17": 0.8, "v18": 0.9}}, {"training, s": {"v17": 5.0, "v18": 7.0}, "refreshes": {"v18": 2.0}}
    )
    points = [[(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines] for axes in figure.axes]  # type: ignore[index]
    assert points == [[(5.0, 0.8), (7.0, 0.9)], [(2.0, 0.9)]]
    assert [axes.get_xlabel() for axes in figure.axes] == ["training, s", "refreshes"]
