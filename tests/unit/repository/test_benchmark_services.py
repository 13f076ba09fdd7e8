"""The instruments of bench_services.py: what the clients' words mean, columns as data, medians of each round's own."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_words_of_apachebench(tmp_path):
    from serviceloads import parse_web

    (tmp_path / "times.csv").write_text("Percentage served,Time in ms\n0,1.000\n50,2.500\n99,9.250\n100,11.0\n")
    output = "Complete requests:      1200\nRequests per second:    240.10 [#/sec] (mean)\n"
    assert parse_web(output, tmp_path, 5.0) == (1200, 240.1, 2.5, 9.25)
    (tmp_path / "times.csv").write_text("Percentage served,Time in ms\n50,2.500\n98,9.250\n99,0.000\n")
    assert parse_web(output, tmp_path, 5.0).p99_ms == 9.25
    with pytest.raises(ValueError, match="Total of 0 requests"):
        parse_web("Total of 0 requests completed\n", tmp_path, 5.0)


def test_the_words_of_redis_benchmark(tmp_path):
    from serviceloads import parse_redis

    head = '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms",'
    output = f'WARNING: no config\n{head}"max_latency_ms"\n"INCR colo","800.00","1.2","0.1","1.1","2","3.5","9"\n'
    assert parse_redis(output, tmp_path, 2.0) == (1600, 800, 1.1, 3.5)


def test_the_log_of_pgbench(tmp_path):
    from serviceloads import parse_tpcb

    (tmp_path / "log.7").write_text("0 1 4000 0 1700000000 1\n1 1 8000 0 1700000000 2\n0 2 6000 0 1700000000 3\n")
    assert parse_tpcb("tps = 39.6 (without initial connection time)\n", tmp_path, 5.0) == (3, 39.6, 6.0, 8.0)
    (tmp_path / "log.7").write_text("")
    with pytest.raises(ValueError, match="no request was answered"):
        parse_tpcb("tps = 0.0 (…)\n", tmp_path, 5.0)


def test_typing_is_as_fast_as_the_echo(tmp_path):
    from serviceloads import parse_keys

    assert parse_keys("[10.0, 20.0, 30.0]\n", tmp_path, 5.0) == (3, 50.0, 20.0, 30.0)


def test_every_load_has_a_name_of_its_own_and_the_quick_ones_are_among_them(tmp_path):
    from serviceloads import LOADS, QUICK

    names = [load.name for load in LOADS]
    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)
    assert all(load.trial or "5" in " ".join(load.command(5.0, tmp_path, 0)) for load in LOADS if load.unit != "MB")


def test_a_column_is_a_name_and_a_file(tmp_path):
    from servicetable import column_of

    file = tmp_path / "masks.toml"
    file.write_text('[[mask]]\nports = [80]\npattern = "x"\n')
    column = column_of(f"masked={file}")
    assert (column.name, column.is_protected) == ("masked", True)
    assert column.more == {"mask": [{"ports": [80], "pattern": "x"}]}
    file.write_text("[mask")
    for wrong in (f"masked={file}", f"masked={tmp_path}/none", "masked", "=x"):
        with pytest.raises(ValueError, match=f"--column {wrong}"):
            column_of(wrong)


def test_every_file_of_a_column_is_one_that_the_nodes_take(tmp_path):
    from servicetable import FOLDER, columns

    from pycolo.config import load
    from pycolo_lab.interruption import Interruption
    from pycolo_lab.processes import Host
    from pycolo_lab.qemu.image import Image
    from pycolo_lab.qemu.machine import GUESTS, Machine, Qemu
    from pycolo_lab.qemu.nodes import NodeFiles, NodeSetting

    qemu = Qemu(command=("qemu",), version="7.2.22")
    machine = Machine(qemu=qemu, image=Image(*[tmp_path] * 3), accelerator="tcg", guest=GUESTS["debian"])
    files = NodeFiles(tmp_path, Host.A, Interruption().look)
    files.directory.mkdir()
    named = [column.name for column in columns()]
    assert named[:3] == ["unprotected", "two guests", "protected"]
    assert named[3:] == sorted(path.stem for path in FOLDER.glob("*.toml"))
    for column in columns():
        files.write_config(machine, NodeSetting(more=column.more))
        assert load(files.config).pair == "lab"


def test_only_checkpoints_that_traffic_asked_for_are_counted():
    from servicetable import checkpoints_of

    status = {"checkpoint": {"count": {"divergence": 3, "timeout": 2, "periodic": 50, "first": 1}}}
    assert checkpoints_of(status) == 5
    assert checkpoints_of({}) == 0


def test_shares_are_medians_of_each_round_s_own():
    from servicetable import Cell, markdown, rows_of

    def cells(alone: float, beside: float, protected: float, **more: object) -> list[Cell]:
        rates = {"unprotected": alone, "two guests": beside, "protected": protected}
        return [
            Cell(load="INCR", column=name, requests=1000, per_second=rate, p50_ms=1.0, p99_ms=2.0, **more)
            for name, rate in rates.items()
        ]

    # The machine is ten times slower in the second round; and one load fails in the third.
    rounds = [cells(1000, 500, 250, checkpoints=4), cells(100, 40, 20, checkpoints=6), cells(800, 400, 240)]
    rounds[2][2].error = "it hung"
    (alone, beside, protected) = rows_of(rounds)
    assert alone.of_unprotected == 100
    assert beside.of_unprotected == 50
    assert (protected.of_unprotected, protected.of_two_guests) == (22.5, 50)
    assert protected.checkpoints_per_1000 == 5
    assert (protected.rounds, protected.errors) == (2, ["it hung"])
    lines = markdown([alone, beside, protected]).splitlines()
    assert lines[0] == "| load | unprotected | two guests | protected |"
    assert lines[2] == "| INCR | 800/s 1/2 ms | 400/s (50 %) 1/2 ms | 135/s (22 / 50 %) 1/2 ms 5 cp |"


def test_a_load_that_failed_in_every_round_says_why():
    from servicetable import Cell, markdown, rows_of

    text = markdown(rows_of([[Cell(load="GET", column="protected", error="refused")]]))
    assert text.splitlines()[-1] == "| GET | failed: refused |"


def test_what_is_recommended_is_shown_again():
    from serviceloads import LOADS
    from servicetable import Cell, columns, recommended_rows, rows_of

    names = {column.name for column in columns()}
    assert {load.recommended for load in LOADS} <= names
    cells = [Cell(load="INCR", column=name, requests=10, per_second=2.0) for name in ("protected", "follow")]
    rows = rows_of([cells])
    (again,) = recommended_rows(rows, {"INCR": "follow", "SET": "protected"})
    assert (again.load, again.column, again.per_second) == ("INCR", "recommended", 2.0)
    assert recommended_rows(rows, {"INCR": "masks"}) == []


def test_the_work_of_others_is_what_no_process_of_the_run_has_done(tmp_path):
    from otherwork import own_s
    from proctime import TICK_S, busy_s

    of_two = "cpu  100 0 50 9999 7 1 2 47 0 0\ncpu0 60 0 20 5000 3 1 2 17 0 0\ncpu1 40 0 30 4999 4 0 0 30 0 0\n"
    (tmp_path / "stat").write_text(of_two + "intr 5 6\nctxt 99\n")
    for number, name in ((1, "init"), (22, "a (b) c")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(f"{number} ({name}) S 0 1 1 0 -1 4 10 0 0 0 30 10 5 5 20 0 1")
    busy = busy_s(tmp_path)
    assert {name: round(seconds / TICK_S) for name, seconds in busy.items()} == {"cpu": 200, "cpu0": 100, "cpu1": 100}
    assert own_s(tmp_path) == pytest.approx(100 * TICK_S)
