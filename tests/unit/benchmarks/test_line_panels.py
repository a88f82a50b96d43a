from __future__ import annotations

from benchmarks._line_panels import LinePanel, line_panels


def test_line_panels_share_colours_and_draw_levels() -> None:
    near, far = {"near": [(16.0, 0.5), (64.0, 0.7)]}, {"far": [(16.0, 0.2)], "near": [(16.0, 0.3)]}
    left, right = line_panels(
        [LinePanel("A", "K", "r²", near, {"none": 0.1}, log_x=True), LinePanel("B", "K", "r²", far)]
    ).axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.5, 0.7], [0.1, 0.1]]
    assert left.lines[0].get_color() == right.lines[1].get_color() != right.lines[0].get_color()
    assert [label.get_text() for label in left.get_xticklabels()] == ["16", "64"]
    assert {text.get_text() for text in left.texts} == {"near", "none"}
