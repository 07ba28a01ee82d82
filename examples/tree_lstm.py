"""A child-sum Tree-LSTM (Tai, Socher, Manning 2015) whose shape follows each input.

Trees are random expressions of `max`, `min` and `first` over digits; the network reads one and says
its value. No two trees need be alike: Python recursion builds the graph.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import rabbet as rb
from rabbet import nn

OPERATIONS = {"max": max, "min": min, "first": lambda a, b: a}
WORDS = [*map(str, range(10)), *OPERATIONS]
SIZE = 32


@dataclass
class Tree:
    """A digit, or an operation on two trees; `value` is what it comes to."""

    word: str
    children: tuple[Tree, ...]
    value: int


def grow(source: random.Random, depth: int) -> Tree:
    """A random tree."""
    if depth == 0 or source.random() < 0.3:
        digit = source.randrange(10)
        return Tree(str(digit), (), digit)
    word = source.choice(list(OPERATIONS))
    left, right = grow(source, depth - 1), grow(source, depth - 1)
    return Tree(word, (left, right), OPERATIONS[word](left.value, right.value))


class TreeLSTM(nn.Module):
    """Reads a tree from its leaves to its root and scores the ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), SIZE)
        self.gates = nn.Linear(SIZE, 3 * SIZE)
        self.gates_below = nn.Linear(2 * SIZE, 3 * SIZE, bias=False)
        self.forget = nn.Linear(SIZE, SIZE)
        self.forget_below = nn.Linear(SIZE, SIZE, bias=False)
        self.score = nn.Linear(SIZE, 10)

    def state(self, tree: Tree) -> tuple[rb.Tensor, rb.Tensor]:
        """(h, c) of a tree: (1, SIZE) each."""
        x = self.words(rb.asarray([WORDS.index(tree.word)]))
        gates = self.gates(x)
        below = [self.state(child) for child in tree.children]
        if below:
            gates = gates + self.gates_below(rb.concat([h for h, _ in below], axis=1))
        i, o, u = rb.split(gates, SIZE, axis=1)
        c = rb.sigmoid(i) * rb.tanh(u)
        for h_child, c_child in below:
            c = c + rb.sigmoid(self.forget(x) + self.forget_below(h_child)) * c_child
        return rb.sigmoid(o) * rb.tanh(c), c

    def forward(self, tree: Tree) -> rb.Tensor:
        return self.score(self.state(tree)[0])


def train(trees: int = 3000, seed: int = 0, depth: int = 3) -> float:
    """Train on fresh trees, ten to a step; the share of right answers on 200 others."""
    rb.manual_seed(seed)
    source = random.Random(seed)
    model = TreeLSTM()
    optimizer = rb.optim.Adam(model.parameters(), lr=5e-3)
    for number in range(trees // 10):
        batch = [grow(source, depth) for _ in range(10)]
        scores = rb.concat([model(tree) for tree in batch], axis=0)
        loss = nn.functional.cross_entropy(scores, rb.asarray([tree.value for tree in batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number % 50 == 0:
            print(f"step {number}  loss {loss.item():.3f}")
    with rb.no_grad():
        test = [grow(source, depth) for _ in range(200)]
        right = sum(int(model(tree).argmax().item() == tree.value) for tree in test)
    return right / len(test)


if __name__ == "__main__":
    print(f"accuracy on new trees: {train():.3f}")
