"""Analyze the control flow of machine code: blocks, dominators, loops, paths round a loop.

A natural loop is what reaches a jump back without passing the jump's target, where the target
dominates the jump (Aho, Sethi, Ullman 1986). Other jumps back, such as those from rarely used
code that ptxas moved to the end of a kernel, make no loop. Instructions are meant by their place
in the sequence, blocks by the place of their first one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hardware.instruction import Instruction

Graph = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Body:
    """Holds a natural loop.

    Attributes:
        header: the block that every round starts with.
        blocks: all blocks, loops inside included.
        members: the places of all instructions.
    """

    header: int
    blocks: frozenset[int]
    members: frozenset[int]


def natural_loops(code: Sequence[Instruction], weights: Sequence[int]) -> list[Body]:
    """Return the innermost natural loops with an instruction of some weight."""
    ends, graph = blocks_of(code)
    order = _reverse_postorder(graph)
    above = _dominators(graph, order)
    before = _reversed(graph, order)
    members: dict[int, set[int]] = {}
    for block in order:
        for target in graph[block]:
            if _dominates(target, block, above):
                members.setdefault(target, set()).update(_reaching(block, target, before))
    bodies = [
        Body(header, frozenset(blocks), frozenset(p for b in blocks for p in range(b, ends[b])))
        for header, blocks in members.items()
    ]
    heavy = [body for body in bodies if any(weights[place] for place in body.members)]
    return [b for b in heavy if not any(other.blocks < b.blocks for other in heavy)]


def walk(code: Sequence[Instruction], body: Body, weights: Sequence[int]) -> list[Instruction]:
    """Return the instructions of the heaviest path round a loop; of equals, the longest.

    A branch may lead past the work on what was loaded: the shortest way would leave that out.
    Loops inside are gone through once.
    """
    ends, graph = blocks_of(code)
    inside = {b: [t for t in graph[b] if t in body.blocks] for b in body.blocks}
    order = _reverse_postorder(inside, body.header)
    place = {block: number for number, block in enumerate(order)}
    best: dict[int, tuple[int, int, list[int]]] = {}
    for block in reversed(order):
        weight = sum(weights[block : ends[block]])
        onward = [best[t] for t in inside[block] if t != body.header and place[t] > place[block]]
        closes = body.header in inside[block]
        ways = [way for way in onward if way[2]] + ([(0, 0, [])] if closes else [])
        if not ways:  # this way leaves the loop, or goes round one inside it
            best[block] = (0, 0, [])
            continue
        heavy, long, rest = max(ways, key=lambda way: way[:2])
        best[block] = (heavy + weight, long + ends[block] - block, [block, *rest])
    return [code[p] for block in best[body.header][2] for p in range(block, ends[block])]


def blocks_of(code: Sequence[Instruction]) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Return each block's end (one past its last instruction), and the blocks that follow."""
    place = {instruction.address: number for number, instruction in enumerate(code)}
    jumps = {n: t for n, i in enumerate(code) if (t := _goes_to(code, n, place)) is not None}
    starts = {0, *jumps.values()}
    starts |= {n + 1 for n, i in enumerate(code) if n in jumps or i.always_leaves}
    order = sorted(start for start in starts if start < len(code))
    ends = dict(zip(order, [*order[1:], len(code)], strict=True))
    graph: dict[int, list[int]] = {}
    for start, end in ends.items():
        last = end - 1
        after = [jumps[last]] if last in jumps else []
        if not code[last].always_leaves and end < len(code) and not _reconverges(code, last, jumps):
            after.append(end)
        graph[start] = list(dict.fromkeys(after))
    return ends, graph


def _goes_to(code: Sequence[Instruction], number: int, place: Mapping[int, int]) -> int | None:
    """Return the place that an instruction may jump to."""
    instruction = code[number]
    if instruction.name == "BSYNC":
        # It waits for the others of its barrier and goes on where BSSY said, mostly right after.
        wanted = instruction.operands.split(",")[0]
        for earlier in reversed(code[:number]):
            if earlier.name == "BSSY" and earlier.operands.split(",")[0] == wanted:
                target = place.get(int(earlier.operands.split("0x")[-1], 16))
                return target if target != number + 1 else None
        return None
    target = instruction.target
    return None if target is None else place.get(target)


def _reconverges(code: Sequence[Instruction], last: int, jumps: Mapping[int, int]) -> bool:
    return code[last].name == "BSYNC" and last in jumps and not code[last].predicate


def _reverse_postorder(graph: Graph, start: int = 0) -> list[int]:
    seen, order = {start}, []
    stack = [(start, iter(graph[start]))]
    while stack:
        block, onward = stack[-1]
        for target in onward:
            if target not in seen:
                seen.add(target)
                stack.append((target, iter(graph[target])))
                break
        else:
            order.append(block)
            stack.pop()
    return order[::-1]


def _reversed(graph: Graph, reached: Iterable[int]) -> dict[int, list[int]]:
    before: dict[int, list[int]] = {}
    for block in reached:
        for target in graph[block]:
            before.setdefault(target, []).append(block)
    return before


def _dominators(graph: Graph, order: Sequence[int]) -> dict[int, int]:
    """Return the immediate dominator of each block (Cooper, Harvey, Kennedy 2001)."""
    place = {block: number for number, block in enumerate(order)}
    before = _reversed(graph, order)
    above = {order[0]: order[0]}
    changed = True
    while changed:
        changed = False
        for block in order[1:]:
            known = [b for b in before[block] if b in above]
            new = known[0]
            for other in known[1:]:
                while new != other:
                    if place[new] > place[other]:
                        new = above[new]
                    else:
                        other = above[other]
            if above.get(block) != new:
                above[block] = new
                changed = True
    return above


def _dominates(upper: int, lower: int, above: Mapping[int, int]) -> bool:
    while lower != upper and above[lower] != lower:
        lower = above[lower]
    return lower == upper


def _reaching(block: int, header: int, before: Graph) -> set[int]:
    """Return the blocks that reach `block` without passing `header`, both included."""
    found, stack = {header, block}, [block] if block != header else []
    while stack:
        for earlier in before.get(stack.pop(), ()):
            if earlier not in found:
                found.add(earlier)
                stack.append(earlier)
    return found
