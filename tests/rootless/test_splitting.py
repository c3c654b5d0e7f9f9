"""Maps are cut where the namespace around has its own seams, and nowhere else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.kernel.idmaps import IdRange, count
from supervisor.rootless.splitting import split

AROUND = [IdRange(0, 1000, 1), IdRange(1, 100_000, 65_536), IdRange(65_537, 300_000, 10)]


def test_what_fits_stays() -> None:
    wanted = [IdRange(0, 1, 1000)]
    assert split(wanted, AROUND) == wanted


def test_it_is_cut_at_every_seam() -> None:
    assert split([IdRange(0, 0, 65_547)], AROUND) == [
        IdRange(0, 0, 1),
        IdRange(1, 1, 65_536),
        IdRange(65_537, 65_537, 10),
    ]


def test_one_id_too_many_and_all_of_it_comes_back() -> None:
    wanted = [IdRange(0, 0, 10), IdRange(10, 10, 65_538)]
    assert split(wanted, AROUND) == wanted
    assert split([IdRange(0, 5, 1)], [IdRange(10, 0, 5)]) == [IdRange(0, 5, 1)]
    assert split([IdRange(0, 5, 1)], []) == [IdRange(0, 5, 1)]


@st.composite
def disjoint(draw: st.DrawFn, most: int = 8) -> list[IdRange]:
    """Maps whose inner ids do not overlap, in any order; outer ids are of no concern."""
    found, start = [], 0
    for _ in range(draw(st.integers(0, most))):
        start += draw(st.integers(0, 50))
        size = draw(st.integers(1, 100))
        found.append(IdRange(start, draw(st.integers(0, 1 << 31)), size))
        start += size
    return draw(st.permutations(found))


@st.composite
def asked(draw: st.DrawFn) -> list[IdRange]:
    return [
        IdRange(draw(st.integers(0, 1000)), draw(st.integers(0, 800)), draw(st.integers(1, 200)))
        for _ in range(draw(st.integers(0, 5)))
    ]


def each_id(ranges: list[IdRange]) -> list[tuple[int, int]]:
    return [(r.inside + n, r.outside + n) for r in ranges for n in range(r.size)]


@given(asked(), disjoint())
def test_every_id_is_where_it_was_in_the_same_order(wanted: list[IdRange], around: list[IdRange]) -> None:
    before = list(around)
    made = split(wanted, around)
    assert around == before
    assert each_id(made) == each_id(wanted)
    assert count(made) == count(wanted)


@given(asked(), disjoint())
def test_every_line_lies_within_one_of_the_namespace_around_or_nothing_is_changed(
    wanted: list[IdRange], around: list[IdRange]
) -> None:
    made = split(wanted, around)
    there = {r.inside + n for r in around for n in range(r.size)}
    if not {outer for _, outer in each_id(wanted)} <= there:
        assert made == wanted
        return
    for line in made:
        assert any(r.inside <= line.outside and line.outside + line.size <= r.inside + r.size for r in around)


@given(disjoint())
def test_it_is_not_cut_more_often_than_needed(around: list[IdRange]) -> None:
    wanted = [IdRange(7 + r.inside, r.inside, r.size) for r in around]
    assert split(wanted, around) == wanted
