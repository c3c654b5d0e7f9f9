"""Names for containers that nobody named: an adjective and the surname of somebody who found things out."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["random_name"]

ADJECTIVES = (  # noqa: SIM905 - nobody reads a list of a hundred quoted words
    "able agile airy alert amber ample aqua arctic austere balmy bold brave breezy bright brisk calm "
    "candid careful clear clever cool cosmic crisp curious daring deft distant eager earnest early "
    "easy elegant even fair fearless fine firm fleet fluent fond frank fresh gentle glad golden grand "
    "green handy hardy helpful honest humble idle jolly keen kind late light lively loyal lucid lucky "
    "mellow merry mild modest neat nimble noble open patient placid plain pleasant polite prompt "
    "proud quick quiet ready robust rustic sage serene sharp silent simple sincere smooth snug sober "
    "solid steady still stoic subtle sunny swift tender tidy tranquil true upbeat valiant vast vivid "
    "warm wary whole wise witty young zealous"
).split()

SURNAMES = (  # noqa: SIM905 - as above
    "abel adams agnesi ampere anning archimedes avogadro babbage banach bassi bell bernoulli bohr "
    "boole born bose bragg brahe burnell cantor carson cauchy cavendish celsius chandra church clarke "
    "cori coulomb cray curie cuvier dalton darwin descartes dirac earhart edison einstein elion "
    "engelbart erdos euclid euler faraday fermat fermi feynman fibonacci fleming fourier franklin "
    "galilei galois gauss germain godel goodall hamilton hawking heisenberg herschel hertz hilbert "
    "hodgkin hooke hopper hubble huygens hypatia jemison johnson joule kepler khayyam kilby knuth "
    "kovalevskaya lagrange lamarr laplace lavoisier leavitt leibniz linnaeus lovelace maxwell mayer "
    "mcclintock meitner mendel mendeleev mirzakhani mitchell morse napier newton nightingale nobel "
    "noether ohm pascal pasteur pauli payne perlman planck poincare ptolemy raman ramanujan ride "
    "riemann ritchie rontgen rubin sagan sanger shannon sinoussi somerville stallman tesla thales "
    "thompson torvalds turing volta watt wilson wing wright wu yalow yonath"
).split()

TRIES = 100


def random_name(taken: Callable[[str], bool]) -> str:
    """A name nobody has; after some tries with a number behind it."""
    chance = random.SystemRandom()
    name = ""
    for attempt in range(TRIES):
        name = f"{chance.choice(ADJECTIVES)}_{chance.choice(SURNAMES)}"
        if attempt >= TRIES // 2:
            name = f"{name}{chance.randrange(1000)}"
        if not taken(name):
            return name
    return f"{name}{chance.randrange(10**9)}"
