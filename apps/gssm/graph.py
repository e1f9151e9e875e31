"""The graph a source is made of: hidden nodes, one observed node, and what each of them sees.

All states start at 0. At every step parents move before their children, and a node moves to a state drawn
from p( . | its own old state, the new states of its parents); the observed node has no own old state. What
the kernels p are drawn from is told with each node; `apps.gssm.kernels` draws them.

    nodes:
      - {name: Z, state_dim: 4, alpha: 0.1}
      - {name: X, state_dim: 8, alpha: 0.1, parents: [Z], observed: true}

is a hidden Markov model of 4 states and 8 symbols.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from apps.gssm.setups import SETUPS
from nanollama.config import Config
from nanollama.wording import suggest

NAME, CONTEXT = re.compile(r"[A-Za-z0-9_-]+"), "context"
"""What a node may be called, but for the name under which tables tell of the contexts."""
MAX_TABLE = 1 << 24
"""Most entries of the table of one node, over all its inputs and contexts (128 MiB)."""
MAX_NODES = 24
"""Most nodes: as many as can move at all under `MAX_STATES`, and a few; arrays have an axis a node."""
MAX_STATES = 1 << 20
"""Most states of all latents together, and of the contexts with them, so that the floor can be computed."""


class NodeConfig(Config):
    """A variable with finitely many states."""

    name: str = Field(
        description="What parents, reports and files call it: letters, digits, `_` and `-`, not `context`."
    )
    state_dim: int = Field(ge=1, description="Number of its states; of the observed node, the vocabulary.")
    alpha: float = Field(
        ge=1e-6,
        le=1e6,
        description="Rows of its kernels are drawn from Dirichlet(alpha, ..., alpha); small is predictable.",
    )
    parents: tuple[str, ...] = Field(default=(), description="Nodes whose new states it sees.")
    mode: Literal["default", "slow", "dead", "context"] = Field(
        default="default",
        description="`slow` tends to stay where it is, `dead` tends to state 0, `context` has other kernels "
        "in every sequence.",
    )
    kernel_type: Literal["product", "fullrank"] = Field(
        default="product",
        description="`product` multiplies one matrix an input, `fullrank` has one row for all inputs "
        "together.",
    )
    observed: bool = Field(default=False, description="Whether its states are the symbols of the sequence.")

    @model_validator(mode="after")
    def _check(self) -> NodeConfig:
        if not NAME.fullmatch(self.name) or self.name == CONTEXT:
            raise ValueError(
                f"a node cannot be called {self.name!r}: give it a name of letters, digits, `_` and `-`, "
                f"other than '{CONTEXT}', which is what tables call the choice of a context"
            )
        if self.name in self.parents:
            raise ValueError(
                f"node '{self.name}' is its own parent: a latent sees its own old state without being told "
                "to, the observed node never does"
            )
        twice = [name for index, name in enumerate(self.parents) if name in self.parents[:index]]
        if twice:
            raise ValueError(f"node '{self.name}' lists the parent '{twice[0]}' twice: list it once")
        if self.mode == "slow" and self.observed:
            raise ValueError(
                f"node '{self.name}' is observed and cannot be slow: it has no own old state to stay in"
            )
        if self.mode == "slow" and self.parents:
            raise ValueError(
                f"node '{self.name}' is slow and cannot have parents: only its own old state moves it"
            )
        return self


class GraphConfig(Config):
    """A source of sequences; a name stands for one of `apps.gssm.setups`."""

    nodes: tuple[NodeConfig, ...] = Field(min_length=1, description="The variables, in any order.")
    n_contexts: int | None = Field(
        default=None,
        ge=1,
        description="Size of the library from which each sequence takes the kernels of all its `context` "
        "nodes; null draws them afresh for every sequence, and then no floor is known.",
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Editors are told of the names, too."""
        return {"anyOf": [{"enum": [*SETUPS]}, handler(core_schema)]}

    @property
    def observed(self) -> NodeConfig:
        """The node whose states are the symbols."""
        return next(node for node in self.nodes if node.observed)

    @property
    def latents(self) -> tuple[NodeConfig, ...]:
        """All other nodes, parents before children, else as they were written."""
        placed: list[NodeConfig] = []
        waiting = [node for node in self.nodes if not node.observed]
        while waiting:
            names = {node.name for node in placed}
            ready = next(node for node in waiting if names.issuperset(node.parents))
            placed.append(ready)
            waiting.remove(ready)
        return tuple(placed)

    @property
    def order(self) -> tuple[NodeConfig, ...]:
        """All nodes, parents before children, the observed node last."""
        return (*self.latents, self.observed)

    @property
    def vocab_size(self) -> int:
        """Number of symbols."""
        return self.observed.state_dim

    @property
    def n_states(self) -> int:
        """Number of states of all latents together."""
        return math.prod(node.state_dim for node in self.latents)

    @property
    def has_contexts(self) -> bool:
        """Whether some node has other kernels in every sequence."""
        return any(node.mode == "context" for node in self.nodes)

    @property
    def has_floor(self) -> bool:
        """Whether the likelihood of a sequence can be computed: contexts, if any, come from a library."""
        return not self.has_contexts or self.n_contexts is not None

    def node(self, name: str) -> NodeConfig:
        """The node of this name."""
        return next(node for node in self.nodes if node.name == name)

    def inputs(self, node: NodeConfig) -> tuple[NodeConfig, ...]:
        """What a node sees: itself if it is latent (its old state), then its parents (their new states)."""
        parents = tuple(self.node(name) for name in node.parents)
        return parents if node.observed else (node, *parents)

    def n_tables(self, node: NodeConfig) -> int:
        """Number of kernels of a node that are drawn with the source: 1, or the size of the library."""
        return (self.n_contexts or 1) if node.mode == "context" else 1

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return _with_tuples(given)
        if given not in SETUPS:
            hint = suggest(given, SETUPS)
            raise ValueError(
                f"there is no graph '{given}'{hint} (known: {', '.join(SETUPS)}; or write `nodes:`)"
            )
        return _with_tuples(SETUPS[given])

    @model_validator(mode="after")
    def _check(self) -> GraphConfig:
        if len(self.nodes) > MAX_NODES:
            raise ValueError(f"{len(self.nodes)} nodes are too many: write at most {MAX_NODES}")
        self._check_names()
        self._check_cycles()
        if self.n_contexts is not None and not self.has_contexts:
            raise ValueError(
                f"n_contexts = {self.n_contexts} has no effect: no node has mode = context; leave it out"
            )
        self._check_sizes()
        return self

    def _check_names(self) -> None:
        names = [node.name for node in self.nodes]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"two nodes are called '{name}': names must differ")
        observed = [node.name for node in self.nodes if node.observed]
        if len(observed) != 1:
            found = f"{' and '.join(map(repr, observed))} are" if observed else "no node is"
            raise ValueError(f"{found} observed: exactly one node needs `observed: true`")
        for node, parent in ((each, name) for each in self.nodes for name in each.parents):
            if parent not in names:
                raise ValueError(
                    f"node '{node.name}' has an unknown parent '{parent}'{suggest(parent, names)} "
                    f"(known: {', '.join(names)})"
                )
            if parent == observed[0]:
                raise ValueError(
                    f"node '{node.name}' has the observed node '{parent}' as a parent: only latents can be"
                )

    def _check_cycles(self) -> None:
        """Follow parents from each node; a node met twice on the way closes a cycle."""
        done: set[str] = set()

        def visit(name: str, trail: list[str]) -> None:
            if name in trail:
                cycle = [*trail[trail.index(name) :], name]
                raise ValueError(f"parents form a cycle: {' <- '.join(cycle)}; take one of the links out")
            if name not in done:
                for parent in self.node(name).parents:
                    visit(parent, [*trail, name])
                done.add(name)

        for node in self.nodes:
            visit(node.name, [])

    def _check_sizes(self) -> None:
        for node in self.nodes:
            sizes = [each.state_dim for each in (*self.inputs(node), node)]
            if self.n_tables(node) > 1:
                sizes.insert(0, self.n_tables(node))
            if math.prod(sizes) > MAX_TABLE:
                raise ValueError(
                    f"the table of node '{node.name}' would have {' x '.join(map(str, sizes))} = "
                    f"{math.prod(sizes):,} entries, more than {MAX_TABLE:,}: give it fewer parents, "
                    "states or contexts"
                )
        n_states = self.n_states * (self.n_contexts or 1)
        if n_states > MAX_STATES:
            with_contexts = f", with {self.n_contexts} contexts," if self.n_contexts else ""
            raise ValueError(
                f"the latents{with_contexts} have {n_states:,} states together, more than {MAX_STATES:,}: "
                "the exact floor could not be computed"
            )


def _with_tuples(value: Any) -> Any:
    """What a config file says, with lists as tuples: pydantic no longer sees that it was a file."""
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
