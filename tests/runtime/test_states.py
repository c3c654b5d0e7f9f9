"""The table of states: every pair of a state and a fact is either in it or refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pyman.errors import WrongState
from pyman.names import State
from supervisor.runtime.life.states import TRANSITIONS, Fact, after, diagram

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"


@pytest.mark.parametrize("state, fact", list(itertools.product(State, Fact)))
def test_a_pair_leads_where_the_table_says_or_is_refused(state: State, fact: Fact) -> None:
    if (state, fact) in TRANSITIONS:
        assert after(state, fact) is TRANSITIONS[state, fact]
    else:
        with pytest.raises(WrongState):
            after(state, fact, subject="web")


def test_every_state_can_be_reached_and_left() -> None:
    reached, changed = {State.CREATED}, True
    while changed:
        new = {then for (before, _), then in TRANSITIONS.items() if before in reached}
        changed = not new <= reached
        reached |= new
    assert reached == set(State)
    assert {before for before, _ in TRANSITIONS} == set(State)


@pytest.mark.parametrize("state", list(State))
def test_a_reboot_is_permitted_in_every_state_and_leaves_none_with_a_process(state: State) -> None:
    assert after(state, Fact.REBOOTED) in (State.CREATED, State.EXITED, State.REMOVING)


def test_the_documented_diagram_is_that_of_the_table() -> None:
    assert diagram() in DOCUMENT.read_text()
