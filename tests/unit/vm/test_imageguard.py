"""An image that no QEMU may write to, as QEMU itself finds it."""

import asyncio
import itertools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pycolo.domain.connection import Connection
from pycolo.domain.host import DomainHost
from pycolo.errors import ConnectError
from pycolo.vm import imageguard
from pycolo.vm.imageguard import ImageGuard, domain_guard, lock
from support.domaindisks import VDA
from support.standinlibvirt import StandInDaemon

DEADLINE_S = 20


def written(image: Path) -> str:
    """What a program of QEMU's says that writes to it."""
    words = ["qemu-io", "-f", "raw", "-c", "write 0 512", str(image)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io: apt install qemu-utils")
def test_qemu_cannot_write_to_what_is_guarded_and_can_look_at_it(tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    image.write_bytes(bytes(4096))

    async def images() -> Sequence[Path]:
        return [tmp_path / "is not there", image]

    async def scene() -> None:
        async with asyncio.timeout(DEADLINE_S):
            guard = ImageGuard(images)
            for _ in range(2):
                guard.set(is_guarded=True)
            while 'Failed to get "write" lock' not in await asyncio.to_thread(written, image):
                await asyncio.sleep(0.01)
            looked = ["qemu-img", "info", "-f", "raw", str(image)]
            await asyncio.to_thread(subprocess.run, looked, check=True, capture_output=True, timeout=DEADLINE_S)
            guard.set(is_guarded=False)
            assert "wrote 512/512 bytes" in await asyncio.to_thread(written, image)
            guard.set(is_guarded=True)
            await guard.close()
            assert "wrote 512/512 bytes" in await asyncio.to_thread(written, image)

    asyncio.run(scene())


@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io: apt install qemu-utils")
def test_images_that_are_written_to_are_not_locked(tmp_path: Path) -> None:
    """A QEMU takes its locks anew with each job, and a survivor's would fail."""
    with pytest.raises(FileNotFoundError):
        lock(tmp_path / "none")
    image = tmp_path / "a"
    image.write_bytes(bytes(4096))
    words = ["qemu-io", "-f", "raw", str(image)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as opened:
        assert opened.stdin is not None
        assert opened.stdout is not None
        opened.stdin.write("write 0 512\n")
        opened.stdin.flush()
        while "ops" not in opened.stdout.readline():
            pass
        with pytest.raises(BlockingIOError):
            lock(image)

        async def images() -> Sequence[Path]:
            return [image]

        async def scene() -> None:
            async with asyncio.timeout(DEADLINE_S):
                guard = ImageGuard(images)
                guard.set(is_guarded=True)
                await asyncio.sleep(0.05)
                assert not guard._locked
                opened.kill()
                while not guard._locked:
                    await asyncio.sleep(0.01)
                await guard.close()

        asyncio.run(scene())


def test_a_libvirt_that_is_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imageguard, "AGAIN_S", 0.01)
    image, asked = tmp_path / "a", []
    image.touch()

    async def images() -> Sequence[Path]:
        asked.append(1)
        if len(asked) < 3:
            raise ConnectError("libvirt cannot be reached")
        return [image]

    async def scene() -> None:
        async with asyncio.timeout(DEADLINE_S):
            guard = ImageGuard(images)
            guard.set(is_guarded=True)
            while not guard._locked:
                await asyncio.sleep(0.001)
            await guard.close()

    asyncio.run(scene())


def test_images_are_guarded_while_there_is_a_reason_and_this_node_does_not_write_to_them(tmp_path: Path) -> None:
    """Whatever is said, in whatever order."""
    image = tmp_path / "a"
    image.touch()

    async def images() -> Sequence[Path]:
        return [image]

    async def scene() -> None:
        async with asyncio.timeout(DEADLINE_S):
            for words in itertools.product(range(6), repeat=4):
                guard = ImageGuard(images)
                is_guarded = is_held = is_paused = False
                for word in words:
                    says = word % 2 == 0
                    match word // 2:
                        case 0:
                            is_guarded = says
                            guard.set(is_guarded=says)
                        case 1:
                            is_held = says
                            guard.hold(is_held=says)
                        case _:
                            is_paused = says
                            guard.pause(is_paused=says)
                if guard._task is not None:
                    await guard._task
                assert bool(guard._locked) == ((is_guarded or is_held) and not is_paused), words
                guard.let_go()
                assert not guard._locked
                guard.pause(is_paused=False)
                assert guard._task is None
                await guard.close()

    asyncio.run(scene())


def test_a_domains_images_are_those_of_its_definition_here(tmp_path: Path) -> None:
    async def scene() -> None:
        async with asyncio.timeout(DEADLINE_S):
            daemon = StandInDaemon("vm1")
            domain = daemon.domains["vm1"]
            domain.xml = domain.xml.replace("<devices>", f"<devices>{VDA}")
            host = DomainHost("vm1", Connection("u", daemon.library))
            assert await domain_guard(host)._images() == [Path("/images/a.qcow2")]
            del daemon.domains["vm1"]
            assert await domain_guard(host)._images() == []

    asyncio.run(scene())
