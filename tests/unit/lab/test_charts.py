"""Curves and charts: right numbers, well-formed pictures."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from pycolo_lab.charts import X_TICKS, Band, Curve, Key, Lifeline, Mark, lifelines, line_chart, nice_ticks, number
from pycolo_lab.facts import Sample
from pycolo_lab.series import rates, value_at

SAMPLES = [Sample(10, 0, 0, 0), Sample(20, 100, 0, 1), Sample(40, 100, 50, 2)]


def test_values_are_interpolated_between_samples() -> None:
    found = [value_at(SAMPLES, "download_bytes", at) for at in (0, 10, 15, 20, 30, 40, 99)]
    assert found == [0, 0, 50, 100, 100, 100, 100]


def test_no_sample_is_nothing() -> None:
    assert value_at([], "answers", 5) == 0
    assert rates([], "answers", [0, 10, 20]) == [0, 0]


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=30), st.integers(1, 50))
def test_rates_add_up_to_the_growth(growth: list[int], count: int) -> None:
    total, samples = 0, []
    for index, step in enumerate(growth):
        total += step
        samples.append(Sample(index * 1000, total, 0, 0))
    end = samples[-1].at_ns
    edges = sorted({end * i // count for i in range(count + 1)})
    found = rates(samples, "download_bytes", edges)
    area = sum(rate * (b - a) / 1e9 for rate, a, b in zip(found, edges, edges[1:], strict=False))
    assert abs(area - (samples[-1].download_bytes - samples[0].download_bytes)) <= 1e-6 * max(total, 1)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e9), st.integers(3, 12))
def test_ticks_are_round_evenly_spaced_and_inside(low: float, width: float, wanted: int) -> None:
    high = low + width
    ticks = nice_ticks(low, high, wanted)
    slack = width * 1e-6 + abs(low) * 1e-6
    assert 1 <= len(ticks) <= 2 * wanted + 1
    assert all(low - slack <= tick <= high + slack for tick in ticks)


def parse(picture: str) -> ET.Element:
    return ET.fromstring(picture)


def test_line_chart_is_well_formed_and_shows_its_marks() -> None:
    picture = line_chart(
        [Curve("download", "a <b> & c", [(0, 0), (1, 5), (2, 3)]), Curve("upload", "empty", [])],
        title="t & t",
        x_range=(0, 2),
        x_label="s",
        y_label="MB/s",
        bands=[Band(0.5, 9, "beyond the edge")],
        marks=[Mark(1, "killed <here>"), Mark(1.01, "and there", "taken")],
    )
    texts = {element.text: element for element in parse(picture).iter("text")}
    assert texts["killed <here>"].get("y") != texts["and there"].get("y"), "words of close moments do not overlap"
    band = next(parse(picture).iter("rect"))
    assert percent(band, "x") + percent(band, "width") <= 100
    keys = [span.text for span in parse(picture).iter("span")]
    assert keys == ["a <b> & c", "empty", "beyond the edge", "killed <here>", "and there"]


def percent(element: ET.Element, name: str) -> float:
    return float(element.get(name, "").removesuffix("%"))


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_a_band_stays_inside_wherever_it_is(start: float, end: float) -> None:
    chart = line_chart([], title="t", x_range=(0, 1), x_label="", y_label="", bands=[Band(start, end, "b")])
    band = next(parse(chart).iter("rect"))
    assert 0 <= percent(band, "x") <= percent(band, "x") + percent(band, "width") <= 100 + 1e-6
    assert percent(band, "width") > 0


PLOT_PX = 284
"""What a telephone 400 pixels wide leaves for a chart, without the numbers at its side."""

DIGIT_PX = 7


@given(st.floats(-600, 0), st.floats(0.4, 4000))
def test_numbers_of_the_x_axis_fit_side_by_side_on_a_telephone(low: float, high: float) -> None:
    ticks = nice_ticks(low, high, X_TICKS)
    show = number(ticks)
    assert sum(len(show(tick)) * DIGIT_PX for tick in ticks) <= PLOT_PX


def test_a_flat_line_is_a_picture_too() -> None:
    parse(line_chart([Curve("x", "x", [(0, 0), (1, 0)])], title="t", x_range=(0, 1), x_label="", y_label=""))


def test_lifelines_break_at_gaps_and_cross_out_what_was_lost() -> None:
    lines = [
        Lifeline("sessions", "kept", 0, 10, [(4, 5), (6, 6.5)], lost=False),
        Lifeline("sessions", "lost", 1, 5, [], lost=True),
    ]
    picture = lifelines(
        lines,
        title="t",
        x_range=(0, 10),
        x_label="s",
        keys=[Key("line sessions", "a session")],
        marks=[Mark(4, "kill")],
    )
    root = parse(picture)
    classes = [line.get("class") for line in root.iter("line")]
    assert classes.count("gap") == 2
    assert classes.count("open") == 3 + 1
    assert [path.get("class") for path in root.iter("path")] == ["lost"]
    assert [span.text for span in root.iter("span")] == ["a session", "waiting", "lost", "kill"]


def test_no_lifeline_at_all_is_a_picture_too() -> None:
    parse(lifelines([], title="t", x_range=(0, 1), x_label="", keys=[]))
