"""The recorder: handles, nodes and the tape (SEMANTICS 4-11).

A Handle is what the user holds; it points to one output of a Node. A Node is one recorded op, or a
leaf with data. Each thread has a Tape: the nodes recorded since its last flush, and, built on the
way, the segment's key (structure without sizes) and its sizes. Nothing here knows what an op does:
shape and dtype rules come from a `prepare` function given from above and are memoised here. All of
it is native: the sources are in native/, the key's encoding is described in native/tape.cpp.
"""

from __future__ import annotations

from rabbet.recorder._recorder import (
    MEMO_LIMIT,
    Caller,
    GradMode,
    Handle,
    Leaf,
    Node,
    Operator,
    Prepared,
    Recipe,
    Replay,
    Segment,
    Steps,
    Tape,
    clear_memo,
    configure,
    current,
    elements,
    flush_known,
    forget_singles,
    last_run,
    leaf_node,
    memo_size,
    nodes_alive,
    note_run,
    number,
    offset_node,
    prepared,
    pull,
    record,
    remember,
    residuals,
    runs,
    scalar_node,
    value,
)

__all__ = [
    "MEMO_LIMIT",
    "Caller",
    "GradMode",
    "Handle",
    "Leaf",
    "Node",
    "Operator",
    "Prepared",
    "Recipe",
    "Replay",
    "Segment",
    "Steps",
    "Tape",
    "clear_memo",
    "configure",
    "current",
    "elements",
    "flush_known",
    "forget_singles",
    "last_run",
    "leaf_node",
    "memo_size",
    "nodes_alive",
    "note_run",
    "number",
    "offset_node",
    "prepared",
    "pull",
    "record",
    "remember",
    "residuals",
    "runs",
    "scalar_node",
    "value",
]
