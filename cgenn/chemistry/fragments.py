"""Cuts molecules into pieces of three to five heavy atoms: repeat units first, rings and groups kept whole."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from cgenn.mapping.stereo import environments

if TYPE_CHECKING:
    import networkx
    from rdkit import Chem

_MOST = 5
"""Heavy atoms of a piece, but for rings."""
_ENOUGH = 4
"""Heavy atoms at which a piece is closed."""
_REPEATS = 3
"""Least number of repeat units that make a chain."""


def cut_molecule(molecule: Chem.Mol) -> list[tuple[int, ...]]:
    """Heavy atoms of each piece, those along the longest chain first, in its order."""
    graph = _groups(molecule)
    path = _longest_path(graph)
    _cut_repeats(graph, path, molecule)
    pieces = [piece for part in _components(graph) for piece in _split(part)]
    pieces = _absorb_small(pieces, graph)
    atoms = [tuple(sorted(atom for node in piece for atom in node)) for piece in pieces]
    place = {atom: number for number, node in enumerate(path) for atom in node}
    return sorted(atoms, key=lambda piece: (min(place.get(atom, len(place)) for atom in piece), piece))


def _groups(molecule: Chem.Mol) -> networkx.Graph:
    """What is never cut, as nodes: ring systems, multiple bonds, and atoms at the end with what they are bonded to."""
    import networkx

    heavy = [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetAtomicNum() > 1]
    kept = networkx.Graph()
    kept.add_nodes_from(heavy)
    for ring in molecule.GetRingInfo().AtomRings():
        networkx.add_path(kept, ring)
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b) for b in molecule.GetBonds()]
    bonds = [(i, j, bond) for i, j, bond in bonds if kept.has_node(i) and kept.has_node(j)]
    degree = networkx.Graph((i, j) for i, j, _ in bonds).degree
    for i, j, bond in bonds:
        ring = any(molecule.GetAtomWithIdx(one).IsInRing() for one in (i, j))
        if not ring and (bond.GetBondTypeAsDouble() > 1 or min(degree[i], degree[j]) == 1):
            kept.add_edge(i, j)
    nodes = [tuple(sorted(part)) for part in networkx.connected_components(kept)]
    home = {atom: node for node in nodes for atom in node}
    graph = networkx.Graph()
    for node in nodes:
        graph.add_node(node, ring=molecule.GetAtomWithIdx(node[0]).IsInRing(), cut=False)
    for i, j, _ in bonds:
        if home[i] != home[j]:
            graph.add_edge(home[i], home[j], cut=False, carbons=all(
                molecule.GetAtomWithIdx(one).GetSymbol() == "C" for one in (i, j)
            ))  # fmt: skip
    return graph


def _longest_path(graph: networkx.Graph) -> list[tuple[int, ...]]:
    """The longest of the shortest paths, found from both ends; starts where the atoms start."""
    import networkx

    start = next(iter(graph))
    for _ in range(2):
        start = list(networkx.single_source_shortest_path_length(graph, start))[-1]
    paths = networkx.single_source_shortest_path(graph, start)
    path = max(paths.values(), key=len)
    return path if path[0] < path[-1] else path[::-1]


def _cut_repeats(graph: networkx.Graph, path: list[tuple[int, ...]], molecule: Chem.Mol) -> None:
    """Mark the bonds between the repeat units of a chain as cut, if there are some."""
    labels = environments(molecule)
    row = [tuple(sorted(labels[atom] for atom in node)) for node in path]
    period, first = _period(row)
    if not period:
        return
    size = max(1, round(_ENOUGH / max(1, sum(len(node) for node in path[first : first + period]))))
    alone = all(graph.degree[node] <= 2 for node in path[first : first + period])
    step = period * (size if alone else 1)
    links = list(pairwise(path))
    offset = max(range(step), key=lambda one: (graph.edges[links[first + one % period]]["carbons"], one == step - 1))
    for number in range((first + offset) % step, len(links), step):
        graph.edges[links[number]]["cut"] = True


def _period(row: list[tuple[int, ...]]) -> tuple[int, int]:
    """The least period of the middle of a row, and where it starts; zero if it does not repeat."""
    for period in range(1, len(row) // _REPEATS + 1):
        same = [row[place] == row[place + period] for place in range(len(row) - period)]
        first = next((place for place in range(len(same)) if same[place]), len(same))
        last = next((place for place in range(first, len(same)) if not same[place]), len(same))
        if last - first >= (_REPEATS - 1) * period and last - first >= len(row) / 3:
            return period, first
    return 0, 0


def _components(graph: networkx.Graph) -> list[networkx.Graph]:
    import networkx

    left = networkx.Graph(graph)
    left.remove_edges_from([(i, j) for i, j, cut in graph.edges(data="cut") if cut])
    return [left.subgraph(part) for part in networkx.connected_components(left)]


def _split(part: networkx.Graph) -> list[list[tuple[int, ...]]]:
    """Pieces of a part: rings alone, everything else gathered from the outside until it is large enough."""
    import networkx

    rings = [node for node, ring in part.nodes(data="ring") if ring]
    if not rings and sum(map(len, part)) <= _MOST:
        return [list(part)]
    root = min(part, key=lambda node: (part.degree[node], node))
    tree = networkx.bfs_tree(part, root)
    closed: list[list[tuple[int, ...]]] = []
    open_: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for node in networkx.dfs_postorder_nodes(tree, root):
        piece = [node]
        ring = part.nodes[node]["ring"]
        for child in sorted(tree.successors(node), key=lambda one: _weight(open_.get(one, []))):
            more = open_.get(child, [])
            fits = _weight(more) <= 1 if ring else _weight(piece) + _weight(more) <= _MOST
            if more and fits:
                piece += more
            elif more:
                closed.append(more)
        if ring or _weight(piece) >= _ENOUGH:
            closed.append(piece)
        else:
            open_[node] = piece
    return closed + ([open_[root]] if root in open_ else [])


def _weight(piece: list[tuple[int, ...]]) -> int:
    return sum(map(len, piece))


def _absorb_small(pieces: list[list[tuple[int, ...]]], graph: networkx.Graph) -> list[list[tuple[int, ...]]]:
    """Join pieces of one heavy atom to the smallest neighbour."""
    result = sorted(pieces, key=_weight, reverse=True)
    while len(result) > 1 and _weight(result[-1]) == 1:
        small = result.pop()
        around = {other for node in small for other in graph.neighbors(node)}
        touching = [piece for piece in result if around & set(piece)]
        if not touching:
            return [*result, small]
        min(touching, key=_weight).extend(small)
        result.sort(key=_weight, reverse=True)
    return result
