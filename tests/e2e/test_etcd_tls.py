"""The arbiter `etcd` over https, with certificates on both sides, against an etcd that asks for them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo import arbiters
from pycolo.arbiters.etcdclient import EtcdStore, StoreError
from pycolo.arbiters.httprequest import TlsFiles
from pycolo.errors import ConfigError
from pycolo.failover.arbiter import Decision
from pycolo.failover.store import Answer, GrantLease, LeaseGranted, ReadKeys
from support.etcd import Certificates, Etcd, Settings

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "pair")


@pytest.fixture(scope="module")
def etcd(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd"), certificates) as running:
        yield running


def ask(etcd: Etcd, tls: TlsFiles) -> Answer:
    return asyncio.run(EtcdStore((etcd.url,), "/colo/", "vm1", 10.0, tls).ask(GrantLease(60)))


def test_a_lease_is_acquired_served_under_and_given_back(etcd: Etcd, certificates: Certificates) -> None:
    tls = certificates.of("node")
    settings = Settings(
        kind="etcd", endpoints=(etcd.url,), ca=tls.authority, certificate=tls.certificate, key=tls.key, ttl_ms=2000
    )

    async def life() -> None:
        arbiter = arbiters.make(
            settings, pair="vm1", role="primary", peer="-", identity="a", term=0, apart_ms=0, on_change=lambda: None
        )
        await arbiter.start()
        try:
            async with asyncio.timeout(60):
                granted = await arbiter.acquire()
                assert granted.decision is Decision.GRANTED
                until_ns = arbiter.serve_until_ns()
                while arbiter.serve_until_ns() == until_ns:  # it is renewed
                    await asyncio.sleep(0.01)
                await arbiter.resign()
        finally:
            await arbiter.close()

    asyncio.run(life())


def test_who_shows_nothing_or_the_wrong_certificate_is_refused(
    etcd: Etcd, certificates: Certificates, tmp_path: Path
) -> None:
    stranger = Certificates(tmp_path / "stranger").of("node")
    for tls in (TlsFiles(certificates.authority), stranger._replace(authority=certificates.authority)):
        with pytest.raises(StoreError, match=etcd.url):
            ask(etcd, tls)


def test_an_etcd_of_another_authority_is_not_believed(etcd: Etcd, certificates: Certificates, tmp_path: Path) -> None:
    other = Certificates(tmp_path / "other").authority
    for authority in (other, None):  # None: the system's authorities
        with pytest.raises(StoreError, match="certificate verify failed") as error:
            ask(etcd, certificates.of("node")._replace(authority=authority))
        assert "\n" not in str(error.value)


def test_an_etcd_at_another_address_is_not_believed(etcd: Etcd, certificates: Certificates) -> None:
    url = etcd.url.replace("127.0.0.1", "localhost")
    store = EtcdStore((url,), "/colo/", "vm1", 10.0, certificates.of("node"))
    with pytest.raises(StoreError, match=r"(?i)hostname mismatch"):
        asyncio.run(store.ask(ReadKeys()))


def test_files_that_were_renewed_are_read_anew(etcd: Etcd, certificates: Certificates, tmp_path: Path) -> None:
    good, bad = certificates.of("node"), Certificates(tmp_path / "old").of("node")
    files = TlsFiles(certificates.authority, tmp_path / "node.pem", tmp_path / "node.key")

    def install(tls: TlsFiles) -> None:
        for source, target in ((tls.certificate, files.certificate), (tls.key, files.key)):
            assert source is not None
            assert target is not None
            target.write_bytes(source.read_bytes())

    async def life() -> None:
        store = EtcdStore((etcd.url,), "/colo/", "vm1", 10.0, files)
        with pytest.raises(StoreError):
            await store.ask(GrantLease(60))
        install(good)
        assert isinstance(await store.ask(GrantLease(60)), LeaseGranted)

    install(bad)
    asyncio.run(life())


@pytest.mark.parametrize("broken", ["missing", "empty", "other key"])
def test_files_that_cannot_be_used_are_named_at_the_start(
    certificates: Certificates, tmp_path: Path, broken: str
) -> None:
    files = certificates.of("node")
    (tmp_path / "empty").touch()
    wrong = {
        "missing": files._replace(certificate=tmp_path / "none.pem"),
        "empty": files._replace(authority=tmp_path / "empty"),
        "other key": files._replace(key=certificates.of("server").key),
    }[broken]
    with pytest.raises(ConfigError, match=r"^arbiter\.c") as error:
        EtcdStore(("https://127.0.0.1:1",), "/colo/", "vm1", 1.0, wrong)
    assert "\n" not in str(error.value)
