"""A guest's room, as far as it can be looked at without namespaces; and a program's own words."""

from pycolo_lab.own.room import Mounted, parse_mounts
from pycolo_lab.own.runner import WORDS_CHARACTERS_MAX, clean

MOUNTINFO = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /proc rw,nosuid - proc proc rw
30 21 254:0 /data /srv/a\\040b rw master:3 propagate_from:2 - xfs /dev/vdb rw
31 21 0:9 net:[4026531840] /run/netns/web rw - nsfs nsfs rw
"""


def test_mounts_are_read_with_their_kinds_and_spaces_in_their_names():
    assert parse_mounts(MOUNTINFO) == [
        Mounted("/", "ext4"),
        Mounted("/proc", "proc"),
        Mounted("/srv/a b", "xfs"),
        Mounted("/run/netns/web", "nsfs"),
    ]


def test_words_are_short_and_keep_both_ends():
    text = "the beginning " + "x" * 1000 + " the end"
    said = clean(text)
    assert len(said) <= WORDS_CHARACTERS_MAX + 3
    assert said.startswith("the beginning")
    assert said.endswith("the end")


def test_words_have_nothing_that_a_terminal_obeys():
    assert clean("a\tb\x1b[2Jc") == "a b\N{REPLACEMENT CHARACTER}[2Jc"
