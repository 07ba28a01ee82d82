"""The arithmetic of attention, one place for the interpreter and the code generator.

Online softmax (Milakov and Gimelshein 2018; FlashAttention, Dao et al. 2022): per query a running
maximum, a running sum of exponentials and a running result, rescaled when a tile of keys brings a
larger score. Per tile:

    top'   = the larger of top and the tile's scores (NaN passes by: it comes back as NaN weights)
    shrink = weight(top, top')
    total  = fma(total, shrink, sum of weight(score, top'))   scores by fours, in order
    result = fma(result, shrink, sum of weight * value)       products in order, from 0

and at the end result * inverse(total), and logarithm(top, total) for the gradient. The first tile
has no total and no result to shrink: it gives the sums themselves.
"""

from __future__ import annotations

from rabbet.expr.expr import Expr, acc, const, select
from rabbet.expr.math_exp import exp_fading
from rabbet.expr.scalars import expand_all, log
from rabbet.kernel.loops import Scores

GROUP = 4  # weights of so many keys are added before they join the tile's sum

INF = float("inf")


def larger(top: Expr, score: Expr) -> Expr:
    """The running maximum."""
    return select(top < score, score, top)


def base(top: Expr) -> Expr:
    """What is subtracted from scores: the maximum, 0 while nothing may be attended to."""
    return select(top.equals(-INF), const(0.0, top.dtype), top)


def weight(score: Expr, over: Expr) -> Expr:
    """exp(score - over)"""
    return exp_fading(score - over)


def inverse(total: Expr) -> Expr:
    """What results are multiplied with: a query that attends to nothing has no total."""
    one = const(1.0, total.dtype)
    return select(total.equals(0.0), one, one / total)


def logarithm(top: Expr, total: Expr) -> Expr:
    """log of the sum of exp(score); 0 where nothing is attended to, so that weights stay 0."""
    nothing = total.equals(0.0)
    whole = expand_all(base(top) + log(select(nothing, const(1.0, total.dtype), total)))
    return select(nothing, const(0.0, total.dtype), whole)


def slope(probability: Expr, gradient: Expr, drop: Expr) -> Expr:
    """The gradient of a score, given that of its probability."""
    return probability * (gradient - drop)


def masks(scores: Scores) -> bool:
    """Is a score anything else than the product?"""
    return scores.score is not acc(0, scores.score.dtype)
