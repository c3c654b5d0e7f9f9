"""The maps that containers' user namespaces get, without any namespace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.errors import InvalidArgument
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.rootless import chosen, intervals, requested
from supervisor.rootless.subids import Subordinate

USERS = (IdRange(0, 1000, 1), IdRange(1, 100_000, 65_536))
USER = IdMaps(USERS, USERS)
HOSTS = (IdRange(0, 0, (1 << 32) - 1),)
ROOT = IdMaps(HOSTS, HOSTS)

_ranges = st.builds(lambda begin, size: range(begin, begin + size), st.integers(0, 60), st.integers(1, 20))


@st.composite
def _apart(draw: st.DrawFn) -> list[range]:
    """Ranges that do not overlap, in any order."""
    ids: list[range] = []
    for each in draw(st.lists(_ranges, max_size=6)):
        ids += intervals.without([each], ids)
    return draw(st.permutations(ids))


def _ids(ranges: list[range]) -> list[int]:
    return [id for each in ranges for id in each]


@given(_apart(), _apart())
def test_a_set_without_another_one_keeps_its_order(ids: list[range], taken: list[range]) -> None:
    gone = set(_ids(taken))
    assert _ids(intervals.without(ids, taken)) == [id for id in _ids(ids) if id not in gone]


@given(_apart(), _apart())
def test_pairs_go_in_order_for_as_long_as_there_are_both(inner: list[range], outer: list[range]) -> None:
    pairs = [
        (line.inside + n, line.outside + n)
        for line in intervals.paired(inner, outer)
        for n in range(line.size)
    ]
    assert pairs == list(zip(_ids(inner), _ids(outer), strict=False))


@given(_apart(), st.integers(0, 60))
def test_so_many_ids_are_found_wherever_there_are_as_many(ids: list[range], number: int) -> None:
    found = intervals.first(ids, number)
    if found is None:
        assert intervals.size(ids) < number
    else:
        assert intervals.size(found) == number
        assert set(_ids(found)) <= set(_ids(ids))


@given(_apart(), _apart())
def test_joining_changes_no_id(inner: list[range], outer: list[range]) -> None:
    lines = intervals.paired(inner, outer)
    joined = intervals.joined(lines)
    assert dict(_pairs(joined)) == dict(_pairs(lines))
    assert len(joined) <= len(lines)


def _pairs(lines: list[IdRange] | tuple[IdRange, ...]) -> list[tuple[int, int]]:
    return [(line.inside + n, line.outside + n) for line in lines for n in range(line.size)]


# --userns


@pytest.mark.parametrize("own", [0, 1, 1000, 65_536, 65_537, 1_000_000])
@pytest.mark.parametrize("most", [0, 1, 500, 70_000])
def test_keep_id_gives_the_user_its_own_id_and_every_other_id_once(own: int, most: int) -> None:
    lines = chosen.keep_id(own, own, USER, most).uids
    pairs = dict(_pairs(lines))
    assert pairs[own] == 0
    assert len(pairs) == len(set(pairs.values())) == (min(most, 65_537) if most else 65_537)
    others = [inner for inner in sorted(pairs) if inner != own]
    assert [pairs[inner] for inner in others] == sorted(pairs[inner] for inner in others)
    requested.check(IdMaps(lines, lines), USER)


def test_keep_id_as_podman_makes_it() -> None:
    assert chosen.keep_id(1001, 1001, USER).uids == (
        IdRange(0, 1, 1001),
        IdRange(1001, 0, 1),
        IdRange(1002, 1002, 64_535),
    )


def test_nomap_leaves_the_user_out() -> None:
    assert chosen.no_map(USER).uids == (IdRange(0, 1, 65_536),)
    alone = (IdRange(0, 1000, 1),)
    with pytest.raises(InvalidArgument, match="no subordinate ids"):
        chosen.no_map(IdMaps(alone, alone))


POOL = ([range(1, 65_537)], [range(1, 65_537)])


def test_auto_takes_what_nobody_has() -> None:
    first = chosen.automatic(1024, POOL, [], IdMaps())
    second = chosen.automatic(2000, POOL, [first], IdMaps())
    assert first.uids == (IdRange(0, 1, 1024),)
    assert second.gids == (IdRange(0, 1025, 2000),)


def test_auto_fills_gaps_in_pieces_where_it_must() -> None:
    pool = [range(1, 101)]
    held = (IdRange(0, 41, 20),)
    lines = chosen.automatic(60, (pool, pool), [IdMaps(held, held)], IdMaps()).uids
    assert lines == (IdRange(0, 1, 40), IdRange(40, 61, 20))


def test_auto_keeps_the_lines_that_are_wanted() -> None:
    fixed = IdMaps((IdRange(100, 0, 1),), ())
    made = chosen.automatic(1024, POOL, [], fixed)
    assert dict(_pairs(made.uids))[100] == 0
    assert sorted(dict(_pairs(made.uids))) == list(range(1024))
    assert made.gids == (IdRange(0, 1, 1024),)


def test_auto_says_that_there_are_none_left() -> None:
    everything = chosen.keep_id(1000, 1000, USER)
    with pytest.raises(InvalidArgument, match="cannot find 1024 free uids for --userns auto: 0 are left"):
        chosen.automatic(1024, POOL, [everything], IdMaps())


def test_the_subordinate_ids_of_a_name_from_0_on() -> None:
    ranges = [Subordinate(100_000, 10), Subordinate(100_100, 5)]
    assert chosen.of_name(ranges, ranges, ROOT).uids == (IdRange(0, 100_000, 10), IdRange(10, 100_100, 5))
    assert chosen.of_name(ranges, ranges, USER).uids == (IdRange(0, 1, 10), IdRange(10, 101, 5))
    with pytest.raises(InvalidArgument, match="host's uid 500"):
        chosen.of_name([Subordinate(500, 10)], ranges, USER)


# --uidmap and --gidmap


def _requested(*uids: str, gids: tuple[str, ...] = (), around: IdMaps = USER) -> IdMaps:
    return requested.requested(uids, gids, around, fill=around is USER)


def test_a_map_of_uids_holds_for_gids_as_well() -> None:
    made = _requested("0:1:1000", "2000:0")
    assert made.uids == made.gids == (IdRange(0, 1, 1000), IdRange(2000, 0, 1))


def test_a_line_may_concern_one_kind_alone() -> None:
    made = _requested(gids=("0:0:1000", "g2000:2000:1"))
    assert made.uids == (IdRange(0, 0, 1000),)
    assert made.gids == (IdRange(0, 0, 1000), IdRange(2000, 2000, 1))
    made = _requested("u0:0:10", "0:0:5")
    assert made.gids == (IdRange(0, 0, 5),)


def test_ids_of_the_host_are_found_in_the_users_namespace() -> None:
    assert _requested("0:@100000:10", "100:@1000").uids == (IdRange(0, 1, 10), IdRange(100, 0, 1))
    assert _requested("0:@100000:10", around=ROOT).uids == (IdRange(0, 100_000, 10),)
    with pytest.raises(InvalidArgument, match="cannot map the host's uid 1001"):
        _requested("0:@1000:2")


def test_an_extension_replaces_what_was_said_of_its_ids() -> None:
    # The example of podman-run(1).
    made = _requested("0:0:65000", "+100000:1:1")
    assert made.uids == (IdRange(0, 0, 1), IdRange(2, 2, 64_998), IdRange(100_000, 1, 1))


def test_a_map_that_begins_with_an_extension_gets_all_other_ids_of_the_user() -> None:
    pairs = dict(_pairs(_requested("+100000:1:1").uids))
    assert pairs.pop(100_000) == 1
    assert list(pairs.items()) == [(0, 0), *((n, n + 1) for n in range(1, 65_536))]
    assert _requested("+100000:1:1", around=ROOT).uids == (IdRange(100_000, 1, 1),)


def test_a_group_can_be_added_to_everything_else() -> None:
    groups = (IdRange(0, 1000, 1), IdRange(1, 100_000, 65_536), IdRange(65_537, 2000, 1))
    made = requested.requested((), ("+g100000:@2000",), IdMaps(USERS, groups), fill=True)
    assert made.uids == (IdRange(0, 0, 65_537),)
    assert made.gids == (IdRange(0, 0, 65_537), IdRange(100_000, 65_537, 1))


_texts = st.builds(
    lambda plus, inside, outside, size: f"{plus}{inside}:{outside}:{size}",
    st.sampled_from(["+"]),
    st.integers(0, 200),
    st.integers(0, 300),
    st.integers(1, 80),
)


@given(st.lists(_texts, min_size=1, max_size=6))
def test_whatever_is_extended_no_id_is_mapped_twice_and_the_last_word_counts(texts: list[str]) -> None:
    around = (IdRange(0, 1000, 1), IdRange(1, 100_000, 500))
    made = requested.requested(texts, (), IdMaps(around, around), fill=True)
    requested.check(made, IdMaps(around, around))
    last = requested.parse("--uidmap", texts[-1]).line
    pairs = dict(_pairs(made.uids))
    assert [pairs[last.inside + n] for n in range(last.size)] == [last.outside + n for n in range(last.size)]
    assert set(pairs.values()) == set(range(501))


@pytest.mark.parametrize(
    "text",
    ["", "0", "0:1:2:3", "a:1", "0:b", "-1:0:1", "0:0:0", "0:@", "x0:0", "0:4294967295", "4294967290:0:10"],
)
def test_what_is_no_map_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match="option --uidmap cannot be"):
        _requested(text)


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        (("0:0:10", "5:20:10"), "cannot map the container's uid 5 twice"),
        (("0:0:10", "20:5:10"), "cannot map the uid 5 twice"),
        (("0:70000:1",), "cannot map the uid 70000: it does not exist"),
        (tuple(f"{2 * n}:{n}" for n in range(341)), "a map of 341 lines"),
    ],
)
def test_what_the_kernel_would_refuse_is_refused_before(maps: tuple[str, ...], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        requested.check(_requested(*maps), USER)


def test_lines_are_counted_as_the_kernel_gets_them() -> None:
    around = tuple(IdRange(2 * n, 1000 * n, 2) for n in range(341))
    with pytest.raises(InvalidArgument, match="a map of 341 lines"):
        requested.check(_requested("0:0:682", around=IdMaps(around, around)), IdMaps(around, around))


def test_more_lines_than_anybody_needs_are_refused_before_they_take_time() -> None:
    with pytest.raises(InvalidArgument, match="cannot use 1001 lines of --uidmap"):
        _requested(*(f"+{2 * n}:{2 * n}" for n in range(1001)))


def test_a_namespace_without_groups_is_none() -> None:
    with pytest.raises(InvalidArgument, match="without any gid"):
        requested.check(_requested("u0:0:10", around=ROOT), ROOT)
