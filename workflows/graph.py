"""Graphs with declared fields, and the check that nothing in them hangs loose.

Nipype takes any field name on an ``IdentityInterface``: a misspelt edge builds, runs and passes
``<undefined>`` on without a word. So every builder starts with :func:`new_graph`, which states
the graph's contract, and :func:`check_graph` proves it before a run and in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nipype.interfaces.base import isdefined
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from scsnet_bids.errors import WiringError

INPUT_NODE, OUTPUT_NODE = "inputnode", "outputnode"


def new_graph(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> pe.Workflow:
    """Start a graph with its input and its output node.

    Parameters
    ----------
    name : name of the graph
    inputs, outputs : declared fields; an empty sequence leaves the node out

    Returns
    -------
    nipype Workflow
    """
    graph = pe.Workflow(name=name)
    for node_name, node_fields in ((INPUT_NODE, inputs), (OUTPUT_NODE, outputs)):
        if node_fields:
            graph.add_nodes([pe.Node(IdentityInterface(fields=list(node_fields)), name=node_name)])
    return graph


def check_graph(graph: pe.Workflow) -> None:
    """Refuse a graph with an undeclared, unread or unfed field, at any depth.

    Parameters
    ----------
    graph : nipype Workflow

    Raises
    ------
    WiringError
        Listing every fault as ``graph.node.field``.
    """
    faults = sorted(_faults(graph, graph.name))
    if faults:
        raise WiringError("Every field of a graph must be connected: " + "; ".join(faults) + ".")


def _faults(graph: pe.Workflow, place: str) -> Iterator[str]:
    """Walk a graph and its subgraphs, naming each loose end."""
    for node in graph._graph.nodes:
        here = f"{place}.{node.name}"
        fed, read = _fed_fields(graph, node), _read_fields(graph, node)
        if isinstance(node, pe.Workflow):
            yield from _subgraph_faults(node, fed, here)
            yield from _faults(node, here)
        elif isinstance(node.interface, IdentityInterface):
            yield from _identity_faults(node, fed, read, here)
        else:
            yield from _interface_faults(node, fed, here)


def _fed_fields(graph: pe.Workflow, node: pe.Node) -> set[str]:
    """Fields of a node that an edge of its graph ends in."""
    return {
        target
        for _, _, edge in graph._graph.in_edges(node, data=True)
        for _, target in edge["connect"]
    }


def _read_fields(graph: pe.Workflow, node: pe.Node) -> set[str]:
    """Fields of a node that an edge of its graph starts from."""
    return {
        _name_of(source)
        for _, _, edge in graph._graph.out_edges(node, data=True)
        for source, _ in edge["connect"]
    }


def _name_of(source: str | tuple[str, ...]) -> str:
    """Field of an edge's source, which carries a function beside it where one is applied."""
    return source if isinstance(source, str) else source[0]


def _subgraph_faults(graph: pe.Workflow, fed: set[str], here: str) -> Iterator[str]:
    """Name the inputs that a subgraph declares and its parent does not feed."""
    inputs = graph.get_node(INPUT_NODE)
    for field in inputs.interface._fields if inputs else ():
        constant = isdefined(getattr(inputs.inputs, field))
        if f"{INPUT_NODE}.{field}" not in fed and not constant:
            yield f"{here}.{INPUT_NODE}.{field} is never fed"


def _identity_faults(node: pe.Node, fed: set[str], read: set[str], here: str) -> Iterator[str]:
    """Undeclared fields on either side, declared inputs unread, declared outputs unfed."""
    declared = set(node.interface._fields)
    yield from (f"{here}.{field} is not declared" for field in (fed | read) - declared)
    if node.name == INPUT_NODE:
        yield from (f"{here}.{field} is never read" for field in declared - read)
    if node.name == OUTPUT_NODE:
        constant = {field for field in declared if isdefined(getattr(node.inputs, field))}
        yield from (f"{here}.{field} is never fed" for field in declared - fed - constant)


def _interface_faults(node: pe.Node, fed: set[str], here: str) -> Iterator[str]:
    """Mandatory inputs of an interface that neither an edge nor a constant feeds."""
    for field in node.inputs.traits(mandatory=True):
        if field not in fed and not isdefined(getattr(node.inputs, field)):
            yield f"{here}.{field} is mandatory and never fed"
