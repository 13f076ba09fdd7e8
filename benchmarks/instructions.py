"""How many instructions the cores execute per pair, or per frame: counted with callgrind, so even on a busy machine.

    python benchmarks/instructions.py              a table, and exit status 1 where a row is above its limit
    python benchmarks/instructions.py --update     write instructions.json: what is counted now is what is allowed
    python benchmarks/instructions.py --functions  where they go, function by function (--rows to choose)
    python benchmarks/instructions.py --process    of the whole process: sockets, loop and all, driven from outside

counted.py is what runs under callgrind; only its batches are counted, neither Python's start nor the making of frames.
The same build on the same machine gives the same numbers, to the instruction. Another compiler, Python or processor
(libc chooses its memcpy by that) gives others by a few percent; a limit is MARGIN above what was counted. With
--process the kernel decides how much is read at once: those numbers are near one another, not equal, and not kept.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NoReturn

from loads import LARGE, SMALL
from peers import Shape
from sessions import Load, made, session

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
FOLDER: Final = ROOT / "build" / "instructions"
KEPT: Final = HERE / "instructions.json"
MARGIN: Final = 0.10
FUNCTIONS_SHOWN: Final = 40
PROCESS_CYCLES: Final = (5, 20)
"""To warm up, and counted."""

_SYMBOLS: Final = FOLDER / "symbols"


class RefusalError(Exception):
    """Why nothing can be counted, and what to do."""


def fail(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(1)


def run(command: list[str], what: str, env: dict[str, str] | None = None) -> str:
    """Its standard output. `what` for the message when it fails."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no output"]
        raise RefusalError(f"{what}: {lines[-1]}")
    return done.stdout


def library() -> Path:
    """counting.c, compiled."""
    source, found = HERE / "counting.c", FOLDER / "counting.so"
    if not found.exists() or found.stat().st_mtime < source.stat().st_mtime:
        FOLDER.mkdir(parents=True, exist_ok=True)
        run(["cc", "-O2", "-shared", "-fPIC", "-o", str(found), str(source)], "counting.c does not compile")
    return found


def with_symbols() -> Path:
    """pycolo, compiled with debug information beside the ordinary build; a folder for PYTHONPATH."""
    build = [sys.executable, "setup.py", "--quiet", "build", "--build-lib", str(_SYMBOLS / "lib")]
    build += ["--build-temp", str(_SYMBOLS / "temp")]
    env = os.environ | {"PYCOLO_SYMBOLS": "1"}
    run(build, "the build with symbols failed", env)
    return _SYMBOLS / "lib"


def counted(chosen: list[str], package: Path) -> dict[str, tuple[int, int, Path]]:
    """Row → instructions, pairs or frames, callgrind's file."""
    for old in FOLDER.glob("callgrind.*"):
        old.unlink()
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--error-limit=no", "--compress-strings=no"]
    command += [f"--callgrind-out-file={FOLDER / 'callgrind.out'}", f"--log-file={FOLDER / 'callgrind.log'}"]
    command += [sys.executable, "-B", str(HERE / "counted.py"), str(library()), *chosen]
    # Nothing of the caller's: what stands on the stack moves it, and so what lies on one line of it.
    env = {"PATH": os.defpath, "PYTHONHASHSEED": "0", "PYTHONPATH": str(package), "LC_ALL": "C.UTF-8"}
    lines = run(command, "counting failed", env).splitlines()
    counts = {name: int(count) for count, name in (line.split("\t") for line in lines)}
    found = {}
    for path in FOLDER.glob("callgrind.out.*"):
        text = path.read_text(encoding="utf-8", errors="replace")
        trigger = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if trigger and total and trigger[1] in counts:
            found[trigger[1]] = (int(total[1]), counts[trigger[1]], path)
    if missing := counts.keys() - found.keys():
        raise RefusalError(
            f"callgrind has written nothing for: {', '.join(sorted(missing))} (see {FOLDER}/callgrind.log)"
        )
    return {name: found[name] for name in counts}


def kept() -> dict[str, int]:
    return dict(json.loads(KEPT.read_text(encoding="utf-8"))["instructions"]) if KEPT.exists() else {}


def show(found: dict[str, int], allowed: dict[str, int]) -> list[str]:
    """The table; returns the failures."""
    wrong = []
    print(f"{'instructions per pair, or per frame rewritten':<48} {'now':>7} {'kept':>7} {'change':>7} {'limit':>7}")
    for name, now in found.items():
        before = allowed.get(name)
        if before is None:
            print(f"{name:<48} {now:>7,}")
            wrong.append(f"{name}: not in {KEPT.name}; --update writes it")
            continue
        limit = int(before * (1 + MARGIN))
        print(f"{name:<48} {now:>7,} {before:>7,} {now / before - 1:>+7.1%} {limit:>7,}")
        if now > limit:
            wrong.append(f"{name}: {now:,} instructions, at most {limit:,} are allowed")
    return wrong


def functions(found: dict[str, tuple[int, int, Path]]) -> None:
    """Own and inclusive instructions of each function, by row; for a pair or frame."""
    for name, (total, count, path) in found.items():
        print(f"\n{name}: {total / count:,.0f} instructions; {path.relative_to(ROOT)} for kcachegrind, or")
        print(f"  callgrind_annotate --auto=yes {path.relative_to(ROOT)} build/cython/src/pycolo/core.c, line by line")
        own, inclusive = (annotated(path, is_inclusive) for is_inclusive in (False, True))
        print(f"{'own':>9} {'':>6} {'inclusive':>9}  function")
        for function, amount in sorted(own.items(), key=lambda item: -item[1])[:FUNCTIONS_SHOWN]:
            whole = inclusive.get(function, amount)
            print(f"{amount / count:>9.1f} {amount / total:>6.1%} {whole / count:>9.1f}  {function}")


def annotated(path: Path, is_inclusive: bool) -> dict[str, int]:
    command = [
        "callgrind_annotate",
        "--auto=no",
        "--threshold=100",
        f"--inclusive={'yes' if is_inclusive else 'no'}",
        str(path),
    ]
    found: dict[str, int] = {}
    for line in run(command, "callgrind_annotate failed").splitlines():
        match = re.match(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(?:.*?:)?(\S[^\[]*?)(?: \[(.*)\])?$", line)
        if match and "PROGRAM TOTALS" not in line:
            where = Path(match[3]).name.partition(".")[0] if match[3] else ""
            name = f"{match[2].strip()}  [{where}]"
            found[name] = found.get(name, 0) + int(match[1].replace(",", ""))
    return found


def whole_process(package: Path) -> None:
    """`colo proxy` under callgrind, from the first cycle that is not to warm it up."""
    os.environ |= {"PYTHONHASHSEED": "0", "PYTHONPATH": str(package)}
    print("instructions per pair, or per frame rewritten, of the whole process")
    for load in (
        Load("compare-64", "compare, 64 B", SMALL, 1000, Shape()),
        Load("compare-1448", "compare, 1448 B", LARGE, 1000, Shape()),
        Load("rewriter-1448", "rewrite, 1448 B, both ways", LARGE, 1000, Shape("rewriter")),
    ):
        print(f"{load.title:<48} {_executed(load):>7,.0f}", flush=True)


def _executed(load: Load) -> float:
    """Instructions for a pair or a frame."""
    file = FOLDER / "process.out"
    for old in FOLDER.glob("process.out*"):
        old.unlink()
    under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}", f"--log-file={FOLDER / 'process.log'}"]
    with session("colo", load, made(load), None, [], under) as one:
        control = ["callgrind_control", "--zero", str(one.peer.process.pid)]
        for cycles in PROCESS_CYCLES:
            for _ in range(cycles):
                if wrong := one.round(0)[3]:
                    raise RefusalError(f"{load.title}: {wrong}")
            run(control, "callgrind does not answer")
            control[1] = "--dump"
    totals = re.findall(r"^totals: (\d+)", Path(f"{file}.1").read_text(errors="replace"), re.MULTILINE)
    return sum(map(int, totals)) / PROCESS_CYCLES[1] / one.frames


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="rows with this in their name (A|B: or this)")
    parser.add_argument("--update", action="store_true", help="write instructions.json")
    parser.add_argument("--functions", action="store_true", help="build with symbols, and show the functions")
    parser.add_argument("--process", action="store_true", help="count the whole process of `colo proxy`")
    parser.add_argument("--package", type=Path, default=ROOT / "src", help="the folder that holds pycolo, compiled")
    return parser.parse_args()


def names(chosen: str, package: Path) -> list[str]:
    listing = "from counted import rows; print('\\n'.join(row.name for row in rows()))"
    env = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{package}"}
    every = run([sys.executable, "-B", "-c", listing], "the cores cannot be loaded", env).splitlines()
    found = [name for name in every if any(word in name for word in chosen.split("|"))]
    if not found:
        raise RefusalError(f"--rows {chosen!r}: no such row; there are: {'; '.join(every)}")
    return found


def main() -> None:
    chosen = options()
    for program in ("valgrind", "cc"):
        if shutil.which(program) is None:
            fail(f"{program} is not installed: as root, apt-get install {'gcc' if program == 'cc' else program}")
    try:
        if chosen.process:
            library()
            whole_process(chosen.package)
            return
        wanted = names(chosen.rows, chosen.package)
        measured = counted(wanted, with_symbols() if chosen.functions else chosen.package)
        if chosen.functions:
            functions(measured)
            return
    except RefusalError as error:
        fail(str(error))
    found = {name: round(total / count) for name, (total, count, _) in measured.items()}
    if chosen.update:
        whole = found if not chosen.rows else kept() | found
        KEPT.write_text(json.dumps({"instructions": whole}, indent=2) + "\n", encoding="utf-8")
    wrong = show(found, kept())
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
