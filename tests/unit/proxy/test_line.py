"""Whole command lines: what they ask for, and what they are refused for."""

import pytest

from pycolo.compare.kinds import DivergencePolicy
from pycolo.errors import ConfigError, ConnectError
from pycolo.proxy.line import parse_line
from pycolo.proxy.objects import CompareSpec, Direction, FilterSpec, RewriterSpec
from pycolo.transport.portspec import PortKind


def chardevs(*names: str) -> list[str]:
    return [
        word for name in names for word in ("-chardev", f"socket,id={name},path=/nowhere/{name},server=on,wait=off")
    ]


SIX = chardevs("a", "b", "c", "d", "e", "f")
IOTHREAD = ["-object", "iothread,id=iot0"]
TAP = ["-netdev", "tap,id=hn0,ifname=tap0,script=no,downscript=no"]
COMPARE = "colo-compare,id=c0,primary_in=a,secondary_in=b,outdev=c"


def refusal(*words: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_line(words)
    text = str(raised.value)
    assert "\n" not in text
    return text


def filters(*objects: str) -> list[str]:
    line = parse_line([*SIX, *TAP, *(word for text in objects for word in ("-object", text))])
    return [spec.id for spec in line.chains["hn0"]]


# ── what is asked for ───────────────────────────────────────────────────────────────────────────────────────


def test_compare_with_everything():
    text = COMPARE + (
        ",iothread=iot0,notify_dev=d,vnet_hdr_support=on,compare_timeout=5000,expired_scan_cycle=0x100,max_queue_size=7"
        ",ack_policy=immediate"
    )
    (spec,) = parse_line([*SIX, *IOTHREAD, "-object", text]).objects
    assert isinstance(spec, CompareSpec)
    assert spec.chardevs == {"primary_in": "a", "secondary_in": "b", "outdev": "c", "notify_dev": "d"}
    options = spec.options
    assert (options.compare_timeout_ms, options.scan_cycle_ms, options.queue_packets_max) == (5000, 256, 7)
    assert options.has_vnet
    assert not options.commits_input


def test_defaults_are_qemus():
    (spec,) = parse_line([*SIX, "-object", COMPARE]).objects
    assert isinstance(spec, CompareSpec)
    options = spec.options
    assert (options.compare_timeout_ms, options.scan_cycle_ms, options.queue_packets_max) == (3000, 1000, 1024)
    assert not options.has_vnet
    assert options.commits_input
    assert options.on_divergence is DivergencePolicy.HOLD


@pytest.mark.parametrize("policy", ["hold", "report", "reset"])
def test_on_divergence(policy: str):
    (spec,) = parse_line([*SIX, "-object", f"{COMPARE},on_divergence={policy}"]).objects
    assert isinstance(spec, CompareSpec)
    assert spec.options.on_divergence is DivergencePolicy[policy.upper()]


def test_the_order_of_options_does_not_matter_nor_does_a_second_dash():
    assert parse_line(["--object", COMPARE, *SIX]).objects == parse_line([*SIX, "-object", COMPARE]).objects


def test_json_objects():
    json = '{"qom-type":"colo-compare","id":"c0","primary_in":"a","secondary_in":"b","outdev":"c"}'
    assert parse_line([*SIX, "-object", json]).objects == parse_line([*SIX, "-object", COMPARE]).objects


def test_a_rewriter_between_chardevs():
    text = "filter-rewriter,id=rew0,client_in=a,guest_out=b,guest_in=c,client_out=d,vnet_hdr_support,notify_dev=e"
    (spec,) = parse_line([*SIX, "-object", text]).objects
    assert isinstance(spec, RewriterSpec)
    assert spec.has_vnet
    assert spec.chardevs == {"client_in": "a", "guest_out": "b", "guest_in": "c", "client_out": "d", "notify_dev": "e"}


def test_a_machines_options_are_ignored_with_a_note():
    line = parse_line(
        [
            "-machine",
            "none",
            "-nodefaults",
            "-nographic",
            "-monitor",
            "none",
            "-qmp",
            "unix:q",
            *SIX,
            "-object",
            COMPARE,
        ]
    )
    (note,) = [note for note in line.notes if "ignored" in note]
    for word in ("-machine none", "-nodefaults", "-nographic", "-monitor none", "-qmp unix:q"):
        assert word in note


def test_an_iothread_is_noted():
    line = parse_line([*SIX, *IOTHREAD, "-object", f"{COMPARE},iothread=iot0"])
    assert any("iot0" in note for note in line.notes)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9100", ("127.0.0.1", 9100)), ("[::1]:1", ("::1", 1)), (":9100", ("127.0.0.1", 9100))],
)
def test_metrics(text: str, address: tuple[str, int]):
    assert parse_line([*SIX, "-object", COMPARE, "--metrics", text]).metrics == address
    assert parse_line([*SIX, "-object", COMPARE, f"--metrics={text}"]).metrics == address


@pytest.mark.parametrize(("text", "spin_us"), [("0", 0), ("250", 250), ("1000000", 1_000_000)])
def test_spin(text: str, spin_us: int):
    assert parse_line([*SIX, "-object", COMPARE, "--spin", text]).spin_us == spin_us
    assert parse_line([*SIX, "-object", COMPARE]).spin_us == 0


# ── filters of a netdev ─────────────────────────────────────────────────────────────────────────────────────

MIRROR = "filter-mirror,id={},netdev=hn0,outdev={}"


def test_filters_stand_in_the_order_of_the_line():
    assert filters(MIRROR.format("x", "a"), MIRROR.format("y", "b"), MIRROR.format("z", "c")) == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("where", "order"),
    [
        ("position=head", ["z", "x", "y"]),
        ("position=tail", ["x", "y", "z"]),
        ("position=id=x", ["x", "z", "y"]),
        ("position=id=x,insert=behind", ["x", "z", "y"]),
        ("position=id=y,insert=before", ["x", "z", "y"]),
        ("position=head,insert=behind", ["z", "x", "y"]),
    ],
)
def test_insert_and_position(where: str, order: list[str]):
    assert filters(MIRROR.format("x", "a"), MIRROR.format("y", "b"), f"{MIRROR.format('z', 'c')},{where}") == order


@pytest.mark.parametrize(
    ("queue", "directions"), [("tx", {Direction.TX}), ("rx", {Direction.RX}), ("all", set(Direction))]
)
def test_queues(queue: str, directions: set[Direction]):
    line = parse_line([*SIX, *TAP, "-object", f"{MIRROR.format('x', 'a')},queue={queue},status=off"])
    (spec,) = line.objects
    assert isinstance(spec, FilterSpec)
    assert set(spec.directions) == directions
    assert not spec.is_on


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{COMPARE},x=1", "-object colo-compare: unknown property 'x'"),
        (f"{COMPARE},compare_timeot=1", "(did you mean 'compare_timeout'?)"),
        ("colo-compar,id=c0", "(did you mean 'colo-compare'?)"),
        ("colo-compare,primary_in=a,secondary_in=b,outdev=c", "'id' is missing"),
        ("colo-compare,id=c0,secondary_in=b,outdev=c", "'primary_in' is missing"),
        ("colo-compare,id=c0,primary_in=a,secondary_in=b,outdev=b", "chardev 'b' is in use by c0.secondary_in"),
        ("colo-compare,id=c0,primary_in=a,secondary_in=b,outdev=z", "no chardev 'z'"),
        (f"{COMPARE},iothread=iot9", "there is no iothread 'iot9'"),
        (f"{COMPARE},compare_timeout=0", "from 1 to"),
        (f"{COMPARE},max_queue_size=0", "from 1 to"),
        (f"{COMPARE},vnet_hdr_support=maybe", "must be on or off"),
        (f"{COMPARE},ack_policy=later", "commit or immediate"),
        (f"{COMPARE},notify_dev=d,on_divergence=hold", "excludes notify_dev"),
        ("filter-rewriter,id=r,client_in=a,guest_out=b,guest_in=c", "'client_out' is missing"),
        ("filter-rewriter,id=r", "netdev="),
        ("filter-rewriter,id=r,netdev=hn0,client_in=a", "exclude each other"),
        ("filter-rewriter,id=r,client_in=a,guest_out=b,guest_in=c,client_out=d,queue=tx", "with netdev="),
        ("filter-mirror,id=m,outdev=a", "'netdev' is missing"),
        ("filter-mirror,id=m,netdev=hn0", "'outdev' is missing"),
        ("filter-mirror,id=m,netdev=hn1,outdev=a", "(did you mean 'hn0'?)"),
        ("filter-redirector,id=m,netdev=hn0", "indev="),
        ("filter-redirector,id=m,netdev=hn0,indev=a,outdev=a", "in use by m.indev"),
        ("filter-mirror,id=m,netdev=hn0,outdev=a,queue=up", "all or rx or tx"),
        ("filter-mirror,id=m,netdev=hn0,outdev=a,position=middle", "head, tail or id="),
        ("filter-mirror,id=m,netdev=hn0,outdev=a,position=id=none", "no filter 'none'"),
        ("filter-dump,id=m,netdev=hn0", "'file' is missing"),
        ("secret,id=s", "unknown object 'secret'"),
    ],
)
def test_a_wrong_object_is_refused(text: str, says: str):
    assert says in refusal(*SIX, *TAP, "-object", text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("socket,path=/x", "'id' is missing"),
        ("socket,id=z", "'path (or host and port)' is missing"),
        ("socket,id=z,host=127.0.0.1", "'port' is missing"),
        ("socket,id=z,port=5", "'host' is missing"),
        ("socket,id=z,host=127.0.0.1,port=0", "from 1 to 65535"),
        ("socket,id=z,host=127.0.0.1,port=70000", "from 1 to 65535"),
        ("socket,id=z,path=/x,host=127.0.0.1", "exclude each other"),
        ("socket,id=z,path=/x,wait=off", "wait applies to servers only"),
        ("socket,id=z,path=/x,server=on,reconnect=1", "reconnect applies to clients only"),
        ("socket,id=z,path=/x,reconnect=1,reconnect-ms=5", "mean the same"),
        (f"socket,id=z,path=/{'x' * 200},server=on", "at most 107 bytes"),
        ("socket,id=z,host=127.0.0.1,port=5,ipv4=off,ipv6=off", "leave no address family"),
        ("socket,id=z,path=/x,telnet=on", "telnet"),
        ("socket,id=z,path=/x,sever=on", "(did you mean 'server'?)"),
        ("socket,id=a,path=/x", "two chardevs"),
        ("null,id=z", "use -chardev socket"),
        ("sockt,id=z", "(did you mean 'socket'?)"),
    ],
)
def test_a_wrong_chardev_is_refused(text: str, says: str):
    assert says in refusal(*SIX, "-object", COMPARE, "-chardev", text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("user,id=n", "only -netdev tap"),
        ("tap,id=n", "'ifname' is missing"),
        ("tap,id=n,ifname=0123456789abcdef", "at most 15 bytes"),
        ("tap,id=n,ifname=t,fd=5", "ifname="),
        ("tap,id=n,ifname=t,vhost=on", "vhost"),
        ("tap,id=hn0,ifname=t", "two netdevs"),
    ],
)
def test_a_wrong_netdev_is_refused(text: str, says: str):
    assert says in refusal(*SIX, *TAP, "-object", COMPARE, "-netdev", text)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "-object: no object is given"),
        (["-objct", "x"], "(did you mean '-object'?)"),
        (["-object"], "its value is missing"),
        (["object"], "an option was expected"),
        (["-device", "virtio-net"], "no guest runs here"),
        (["-monitor", "stdio"], "only 'none'"),
        (["-daemonize"], "service manager"),
        (["--metrics", "9100"], "HOST:PORT"),
        (["--metrics", "h:99999"], "HOST:PORT"),
        (["--spin", "-1"], "from 0 to 1000000"),
        (["--spin", "1000001"], "from 0 to 1000000"),
        (["--spin", "fast"], "from 0 to 1000000"),
    ],
)
def test_a_wrong_option_is_refused(words: list[str], says: str):
    assert says in refusal(*words)


def test_two_objects_with_one_id():
    other = "colo-compare,id=c0,primary_in=d,secondary_in=e,outdev=f"
    assert "id 'c0' is used for two objects" in refusal(*SIX, "-object", COMPARE, "-object", other)


def test_two_objects_on_one_chardev():
    other = "colo-compare,id=c1,primary_in=a,secondary_in=e,outdev=f"
    assert "chardev 'a' is in use by c0.primary_in already" in refusal(*SIX, "-object", COMPARE, "-object", other)


def test_filters_of_one_netdev_agree_in_vnet_headers():
    one = "filter-mirror,id=m,netdev=hn0,outdev=a,vnet_hdr_support=on"
    two = "filter-mirror,id=n,netdev=hn0,outdev=b"
    assert "must be the same" in refusal(*SIX, *TAP, "-object", one, "-object", two)
    assert "vnet_hdr=off" in refusal(*SIX, "-netdev", "tap,id=hn0,ifname=t,vnet_hdr=off", "-object", one)


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("host=127.0.0.1,port=5000", "127.0.0.1:5000"),
        ("host=::1,port=5000", "[::1]:5000"),
        ("host=[::1],port=5000", "[::1]:5000"),
        ("host=localhost,port=5000,ipv4", "127.0.0.1:5000"),
        ("host=127.0.0.1,port=5000,ipv6=off", "127.0.0.1:5000"),
    ],
)
def test_hosts_become_addresses(text: str, target: str):
    line = parse_line([*SIX, "-object", COMPARE, "-chardev", f"socket,id=z,{text}"])
    assert (line.chardevs["z"].kind, line.chardevs["z"].target) == (PortKind.TCP, target)


def test_a_host_without_address():
    with pytest.raises(ConnectError, match=r"chardev 'z': 127\.0\.0\.1 has no address"):
        parse_line([*SIX, "-object", COMPARE, "-chardev", "socket,id=z,host=127.0.0.1,port=5,ipv6=on"])


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("", None), (",reconnect=0", 0), (",reconnect=2", 2000), (",reconnect-ms=250", 250)],
)
def test_reconnect(text: str, milliseconds: int | None):
    line = parse_line([*SIX, "-object", COMPARE, "-chardev", f"socket,id=z,path=/x{text}"])
    assert line.chardevs["z"].reconnect_ms == milliseconds


@pytest.mark.parametrize(("text", "waits"), [("server", True), ("server,wait=on", True), ("server,nowait", False)])
def test_wait(text: str, waits: bool):
    line = parse_line([*SIX, "-object", COMPARE, "-chardev", f"socket,id=z,path=/x,{text}"])
    assert line.chardevs["z"].waits is waits
