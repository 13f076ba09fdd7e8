"""The closing table of the QEMU laboratory and its list: right columns, and never wider than the terminal."""

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pycolo.checkpoint.records import ReasonKind
from pycolo_lab.cli.lab import lab
from pycolo_lab.qemu.facts import PauseComparison, PauseFacts, RoundFacts, RunFacts, ScenarioFacts
from pycolo_lab.qemu.scenarios import SCENARIOS
from pycolo_lab.qemu.summary import COLUMNS, LETTERS, _cells, _folded, list_lines, run_lines

WIDTHS = st.integers(40, 220)
MILLISECONDS = st.floats(0, 99_999)


def round_of(still: float = 61, first: float = 62, repair: float = 63, whole: float = 1200) -> RoundFacts:
    return RoundFacts(
        fault="its QEMU is killed",
        stood_still_ms=still,
        first_answer_ms=first,
        repair_stood_still_ms=repair,
        served_by="host B",
        whole_again_ms=whole,
    )


def scenario(name: str = "load", *, rounds: int = 1, broken: list[str] | None = None) -> ScenarioFacts:
    return ScenarioFacts(
        name=name,
        text="",
        holds=not broken,
        broken=broken or [],
        rounds=[round_of()] * rounds,
        connections=48,
        kept=47,
        fresh_connections=3,
        fresh_failed=0,
        answers=900,
        breaches=0,
        first_breaches=[] if name != "control" else ["the number 17 came twice, to connection 3 and to connection 44"],
        checkpoints={"first": 2, "divergence": 25, "periodic": 3},
        aborted=0,
        pause=PauseFacts(count=30, median_ms=7.1, p99_ms=36.0),
        download=None,
        upload=None,
        node_memory_kib=[],
    )


def run_of(scenarios: list[ScenarioFacts], pause: PauseComparison | None = None) -> RunFacts:
    return RunFacts(qemu="7.2.22", accelerator="tcg", detection_ms=150, scenarios=scenarios, pause=pause)


def lines_of(run: RunFacts, columns: int) -> list[str]:
    return [line.plain for line in run_lines(run, columns)]


facts = st.builds(
    ScenarioFacts,
    name=st.sampled_from([each.name for each in SCENARIOS]),
    text=st.just(""),
    holds=st.booleans(),
    broken=st.lists(st.text("ab =:5-", max_size=300), max_size=3),
    rounds=st.lists(
        st.builds(
            RoundFacts,
            fault=st.just("f"),
            stood_still_ms=MILLISECONDS,
            first_answer_ms=MILLISECONDS,
            repair_stood_still_ms=MILLISECONDS,
            served_by=st.just("host A"),
            whole_again_ms=MILLISECONDS,
        ),
        max_size=4,
    ),
    connections=st.integers(0, 99_999),
    kept=st.integers(0, 99_999),
    checkpoints=st.dictionaries(st.sampled_from([*ReasonKind, "unheard of"]).map(str), st.integers(0, 99_999)),
    first_breaches=st.lists(st.text("ab ", min_size=1, max_size=200), max_size=2),
    pause=st.none() | st.builds(PauseFacts, median_ms=MILLISECONDS, p99_ms=MILLISECONDS),
    download=st.none(),
    upload=st.none(),
)
pauses = st.builds(PauseFacts, median_ms=st.floats(0.1, 99), p99_ms=MILLISECONDS)
comparisons = st.builds(PauseComparison, through_nodes=pauses, over_tcp=pauses)


@given(st.lists(facts, max_size=6), st.none() | comparisons, WIDTHS)
def test_no_line_is_longer_than_the_terminal_is_wide(
    scenarios: list[ScenarioFacts], pause: PauseComparison | None, columns: int
) -> None:
    lines = lines_of(run_of(scenarios, pause), columns)
    assert max(map(len, lines)) <= columns
    assert all(any(one.name in line for line in lines) for one in scenarios)


@given(WIDTHS)
def test_no_line_of_the_list_is_either(columns: int) -> None:
    lines = list_lines(columns)
    assert max(map(len, lines)) <= columns
    words = " ".join(lines).split()
    for one in SCENARIOS:
        assert one.name in words
        assert all(word in words for word in one.text.split())


def test_all_scenarios_are_one_table_in_a_hundred_columns() -> None:
    run = run_of([scenario(each.name, rounds=each.rounds) for each in SCENARIOS])
    lines = lines_of(run, COLUMNS)
    assert COLUMNS == 100
    table = lines[2 : 2 + len(SCENARIOS)]
    assert [line.split()[0] for line in table] == [each.name for each in SCENARIOS]
    assert max(map(len, lines_of(run_of([scenario(each.name) for each in SCENARIOS]), 80)[:4])) <= 80
    assert "kept" in lines_of(run_of([scenario(each.name) for each in SCENARIOS]), 80)[1], "and in 80, of a round each"
    assert len(list_lines(COLUMNS)) == len(SCENARIOS) + 1, "and the list a line each"


TENS_OF_SECONDS = st.floats(0, 99_999)
wide = st.builds(
    ScenarioFacts,
    name=st.sampled_from([each.name for each in SCENARIOS]),
    text=st.just(""),
    holds=st.booleans(),
    broken=st.just([]),
    rounds=st.lists(
        st.builds(
            RoundFacts,
            fault=st.just("f"),
            stood_still_ms=TENS_OF_SECONDS,
            first_answer_ms=TENS_OF_SECONDS,
            repair_stood_still_ms=TENS_OF_SECONDS,
            served_by=st.just("host A"),
            whole_again_ms=TENS_OF_SECONDS,
        ),
        max_size=6,
    ),
    connections=st.integers(0, 999),
    kept=st.integers(0, 999),
    checkpoints=st.dictionaries(st.sampled_from([str(kind) for kind in ReasonKind]), st.integers(0, 9_999)),
    first_breaches=st.just([]),
    pause=st.none() | st.builds(PauseFacts, median_ms=TENS_OF_SECONDS, p99_ms=TENS_OF_SECONDS),
    download=st.none(),
    upload=st.none(),
)


@given(st.lists(wide, min_size=1, max_size=len(SCENARIOS)), st.integers(80, COLUMNS))
def test_whatever_the_numbers_are_there_is_one_table_from_eighty_columns_on(
    scenarios: list[ScenarioFacts], columns: int
) -> None:
    lines = lines_of(run_of(scenarios), columns)
    assert lines[1].split()[:2] == ["scenario", "kept"]
    end = next(at for at, line in enumerate(lines) if line.startswith("QEMU "))
    table = lines[2:end]
    assert max(map(len, lines)) <= columns
    assert [line.split()[0] for line in table if line[0] != " "] == [one.name for one in scenarios]


@given(wide)
def test_a_cell_that_is_folded_loses_nothing(one: ScenarioFacts) -> None:
    """Of each cell all pieces are there, in their order, one below the other."""
    for cell in _cells(one):
        longest = max((len(piece) for piece in cell.replace("/", "/ ").split()), default=0)
        for width in range(longest, len(cell) + 1):
            lines = _folded(cell, width)
            assert max(map(len, lines)) <= max(width, 1)
            assert "".join(lines).replace(" ", "") == cell.replace(" ", "")


def test_only_what_does_not_fit_is_folded() -> None:
    one = scenario("checkpoint-secondary", rounds=1)
    one.rounds = [round_of(still, first=10_123, repair=614, whole=12_000) for still in (10_234, 10_312, 10_200)]
    one.pause = PauseFacts(count=500, median_ms=14.8, p99_ms=171.7)
    one.checkpoints = {"first": 3, "divergence": 500, "periodic": 12, "timeout": 3, "queue_full": 11}
    lines = lines_of(run_of([one, scenario()]), COLUMNS)
    assert "3f 500d 12p" in lines[2]
    assert lines[3].split() == ["11q"]
    assert lines[4].split()[0] == "load"
    assert "10234/10312" in lines[2], "there is room for the pair"


@pytest.mark.parametrize(
    ("title", "cell"),
    [
        ("kept", "47/48"),
        ("still ms", "61"),
        ("answer ms", "62"),
        ("points", "2f 25d 3p"),
        ("again s", "1.2"),
        ("scenario", "load"),
    ],
)
def test_each_number_stands_under_its_title(title: str, cell: str) -> None:
    _, titles, row, *_ = lines_of(run_of([scenario()]), COLUMNS)
    start, at = titles.index(title), row.index(cell)
    assert at == start or at + len(cell) == start + len(title), "words begin below it, numbers end there"


def test_the_repair_has_a_column_of_its_own() -> None:
    upper, titles, row, *_ = lines_of(run_of([scenario()]), COLUMNS)
    assert row.index("63") + 2 == titles.rindex("still ms") + len("still ms")
    assert abs(upper.index("repair") + len("repair") - row.index("63") - 2) == 0


def test_of_several_rounds_there_is_the_median_and_the_longest() -> None:
    one = scenario()
    one.rounds = [round_of(still=still) for still in (10, 90, 20)]
    assert "20/90" in "\n".join(lines_of(run_of([one]), COLUMNS))


def test_a_letter_stands_for_one_cause_and_is_explained() -> None:
    assert len(set(LETTERS.values())) == len(ReasonKind)
    text = " ".join(lines_of(run_of([scenario()]), COLUMNS))
    assert "Checkpoints by cause: f first, d divergence, p periodic." in text


def test_where_there_is_no_room_for_a_table_every_number_has_its_name() -> None:
    lines = lines_of(run_of([scenario(), scenario("rest", broken=["it broke"])]), 50)
    assert lines[0] == "load: ok"
    text = " ".join(" ".join(lines).split())
    assert "kept 47/48, stood still 61 ms, first answer 62 ms, repair still 63 ms, checkpoints 2f 25d 3p" in text
    assert "rest: FAILED" in lines
    assert "rest: it broke" in lines


def test_what_did_not_hold_is_said_last_and_a_control_s_failure_too() -> None:
    lines = lines_of(run_of([scenario("control"), scenario("rest", broken=["it broke"])]), 200)
    assert lines[-3:] == [
        "control: it failed as it must: the number 17 came twice, to connection 3 and to connection 44",
        "rest: it broke",
        "Not everything held.",
    ]
    assert lines_of(run_of([scenario()]), 200)[-1] == "Everything held."


def test_the_list_in_a_pipe_fits_a_hundred_columns() -> None:
    result = CliRunner().invoke(lab, ["qemu", "--list"])
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= COLUMNS
    assert "pause" in result.output.splitlines()[-1]
