"""Functions of SciPy and scikit-learn on tensors and on NumPy arrays; a script, for SciPy reads its
switch when it is imported. Prints one JSON line: name -> [numbers of ours, NumPy's numbers, type].
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import (
    cluster,
    differentiate,
    fft,
    integrate,
    interpolate,
    ndimage,
    optimize,
    signal,
    spatial,
    special,
    stats,
)

import rabbet as rb

_rng = np.random.default_rng(0)
X = _rng.normal(size=(60, 5))
Y = (X[:, 0] + 0.3 * _rng.normal(size=60) > 0).astype(np.int64)
A, B = _rng.normal(size=20), _rng.normal(size=20)
POSITIVE = np.abs(A) + 0.1

SCIPY: dict[str, Callable[..., Any]] = {
    **{
        name: (lambda xp, name=name: getattr(special, name)(xp.asarray(POSITIVE) / 9))
        for name in (
            "erf expit gammaln logsumexp softmax log_softmax ndtr logit entr i0 "
            "digamma erfinv ndtri log_ndtr k1 cbrt rgamma"
        ).split()
    },
    **{
        name: (lambda xp, name=name: getattr(stats, name)(xp.asarray(A), xp.asarray(B)).pvalue)
        for name in (
            "ttest_rel bartlett levene fligner mood kruskal "
            "cramervonmises_2samp epps_singleton_2samp"
        ).split()
    },
    **{
        name: (lambda xp, name=name: getattr(stats, name)(xp.asarray(POSITIVE)))
        for name in "variation hmean iqr circvar kstat lmoment differential_entropy".split()
    },
    "savgol_filter": lambda xp: signal.savgol_filter(xp.asarray(A), 5, 2),
    "resample_poly": lambda xp: signal.resample_poly(xp.asarray(A), 2, 3),
    "kmeans2": lambda xp: cluster.vq.kmeans2(xp.asarray(X), xp.asarray(X[:3]), minit="matrix")[0],
    "rosen_hess": lambda xp: optimize.rosen_hess(xp.asarray(A)),
    "derivative": lambda xp: differentiate.derivative(xp.exp, xp.asarray(A)).df,
    "CubicSpline": lambda xp: interpolate.CubicSpline(xp.asarray(np.sort(A)), xp.asarray(B))(
        xp.asarray(np.sort(A)[:5])
    ),
    "Rotation": lambda xp: spatial.transform.Rotation.from_rotvec(xp.asarray(X[:, :3])).as_matrix(),
    "gaussian_filter": lambda xp: ndimage.gaussian_filter(xp.asarray(X), 1.0),
    "xlogy": lambda xp: special.xlogy(xp.asarray(A), xp.asarray(POSITIVE)),
    "betainc": lambda xp: special.betainc(*[xp.asarray(POSITIVE) / 9] * 3),
    "moment": lambda xp: stats.moment(xp.asarray(A), 3),
    "skew": lambda xp: stats.skew(xp.asarray(A)),
    "kurtosis": lambda xp: stats.kurtosis(xp.asarray(A)),
    "pearsonr": lambda xp: stats.pearsonr(xp.asarray(A), xp.asarray(B)).statistic,
    "ttest_1samp": lambda xp: stats.ttest_1samp(xp.asarray(A), 0.0).pvalue,
    "ttest_ind": lambda xp: stats.ttest_ind(xp.asarray(A), xp.asarray(B)).pvalue,
    "zscore": lambda xp: stats.zscore(xp.asarray(A)),
    "sem": lambda xp: stats.sem(xp.asarray(A)),
    "gmean": lambda xp: stats.gmean(xp.asarray(POSITIVE)),
    "rankdata": lambda xp: stats.rankdata(xp.asarray(np.round(A))),
    "mannwhitneyu": lambda xp: stats.mannwhitneyu(xp.asarray(A), xp.asarray(B)).pvalue,
    "entropy": lambda xp: stats.entropy(xp.asarray(POSITIVE)),
    "f_oneway": lambda xp: stats.f_oneway(xp.asarray(A), xp.asarray(B)).statistic,
    "trapezoid": lambda xp: integrate.trapezoid(xp.asarray(A), xp.asarray(B)),
    "cumulative_trapezoid": lambda xp: integrate.cumulative_trapezoid(xp.asarray(A)),
    "wilcoxon": lambda xp: stats.wilcoxon(xp.asarray(A), xp.asarray(B)).pvalue,
    "normaltest": lambda xp: stats.normaltest(xp.asarray(A)).statistic,
    "circmean": lambda xp: stats.circmean(xp.asarray(POSITIVE)),
    "quantile": lambda xp: stats.quantile(xp.asarray(A), xp.asarray(POSITIVE / 9)),
    "combine_pvalues": lambda xp: stats.combine_pvalues(xp.asarray(POSITIVE / 9)).statistic,
    "fft": lambda xp: xp.abs(fft.fft(xp.asarray(A))),
    "rfftn": lambda xp: xp.abs(fft.rfftn(xp.asarray(X))),
    "dct": lambda xp: fft.dct(xp.asarray(A)),
    "fftfreq": lambda xp: fft.fftshift(fft.fftfreq(8, xp=xp)),
    "hilbert": lambda xp: xp.abs(signal.hilbert(xp.asarray(A))),
    "fftconvolve": lambda xp: signal.fftconvolve(xp.asarray(A), xp.asarray(B)),
    "detrend": lambda xp: signal.detrend(xp.asarray(A)),
    "resample": lambda xp: signal.resample(xp.asarray(A), 10),
    "kaiser": lambda xp: signal.windows.kaiser(8, 2.0, xp=xp),
    "whiten": lambda xp: cluster.vq.whiten(xp.asarray(X)),
    "vq": lambda xp: cluster.vq.vq(xp.asarray(X), xp.asarray(X[:3]))[1],
    "linkage": lambda xp: cluster.hierarchy.linkage(xp.asarray(X), "average"),
}


# Functions of array_api_extra, a copy of which comes with scikit-learn.
EXTRA: dict[str, Callable[..., Any]] = {
    "at set": lambda xp, xpx: xpx.at(xp.asarray(A), 2).set(3.0, copy=True),
    "at add": lambda xp, xpx: xpx.at(xp.asarray(A))[1:5].add(2.0, copy=True),
    "at mask": lambda xp, xpx: xpx.at(xp.asarray(A))[xp.asarray(A) > 0].multiply(2.0, copy=True),
    "apply_where": lambda xp, xpx: xpx.apply_where(
        xp.asarray(A) > 0, xp.asarray(A), xp.sqrt, lambda x: x * 2
    ),
    "atleast_nd": lambda xp, xpx: xpx.atleast_nd(xp.asarray(A), ndim=3),
    "cov": lambda xp, xpx: xpx.cov(xp.asarray(X.T)),
    "create_diagonal": lambda xp, xpx: xpx.create_diagonal(xp.asarray(A), offset=1),
    "expand_dims": lambda xp, xpx: xpx.expand_dims(xp.asarray(A), axis=(0, -1)),
    "isclose": lambda xp, xpx: xpx.isclose(xp.asarray(A), xp.asarray(A + 1e-9)),
    "kron": lambda xp, xpx: xpx.kron(xp.asarray(X), xp.asarray(A[:, None])),
    "nunique": lambda xp, xpx: xpx.nunique(xp.asarray(Y)),
    "one_hot": lambda xp, xpx: xpx.one_hot(xp.asarray(Y), 2),
    "pad": lambda xp, xpx: xpx.pad(xp.asarray(X), ((1, 2), (0, 1)), constant_values=2.0),
    "setdiff1d": lambda xp, xpx: xpx.setdiff1d(xp.asarray(Y), xp.asarray([0])),
    "sinc": lambda xp, xpx: xpx.sinc(xp.asarray(A)),
}


def of_sklearn() -> dict[str, Callable[..., Any]]:
    """Estimators and metrics; {} where scikit-learn is not installed."""
    try:
        import sklearn
    except ImportError:
        return {}
    from sklearn import metrics, preprocessing
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.externals import array_api_extra
    from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
    from sklearn.naive_bayes import GaussianNB

    sklearn.set_config(array_api_dispatch=True)
    return {
        **{
            n: (lambda xp, f=f: f(xp, array_api_extra))
            for n, f in EXTRA.items()
            if hasattr(array_api_extra, n.split()[0])
        },
        **{
            n: (lambda xp, e=e: e.fit(xp.asarray(X), xp.asarray(Y)).predict(xp.asarray(X)))
            for n, e in {
                "GaussianNB": GaussianNB(),
                "LogisticRegression": LogisticRegression(),
            }.items()
        },
        **{
            n: (lambda xp, n=n: getattr(metrics, n)(xp.asarray(Y), xp.asarray(Y[::-1])))
            for n in ("balanced_accuracy_score", "jaccard_score", "cohen_kappa_score")
        },
        "RobustScaler": lambda xp: preprocessing.RobustScaler().fit_transform(xp.asarray(X)),
        "LabelBinarizer": lambda xp: preprocessing.LabelBinarizer().fit_transform(xp.asarray(Y)),
        "PCA": lambda xp: abs(PCA(2, svd_solver="full").fit(xp.asarray(X)).components_),
        "LinearDiscriminantAnalysis": lambda xp: (
            LinearDiscriminantAnalysis().fit(xp.asarray(X), xp.asarray(Y)).predict(xp.asarray(X))
        ),
        "PCA whitening": lambda xp: abs(
            PCA(3, svd_solver="covariance_eigh", whiten=True).fit_transform(xp.asarray(X))
        ),
        "LDA of probabilities": lambda xp: (
            LinearDiscriminantAnalysis()
            .fit(xp.asarray(X), xp.asarray(Y))
            .predict_proba(xp.asarray(X))
        ),
        "RidgeCV": lambda xp: RidgeCV().fit(xp.asarray(X), xp.asarray(X[:, 1] * 2)).coef_,
        "Ridge": lambda xp: Ridge(solver="svd").fit(xp.asarray(X), xp.asarray(X[:, 0])).coef_,
        "accuracy_score": lambda xp: metrics.accuracy_score(xp.asarray(Y), xp.asarray(Y[::-1])),
        "f1_score": lambda xp: metrics.f1_score(xp.asarray(Y), xp.asarray(Y[::-1])),
        "confusion_matrix": lambda xp: metrics.confusion_matrix(xp.asarray(Y), xp.asarray(Y[::-1])),
        "r2_score": lambda xp: metrics.r2_score(xp.asarray(A), xp.asarray(B)),
        "mean_squared_error": lambda xp: metrics.mean_squared_error(xp.asarray(A), xp.asarray(B)),
        "log_loss": lambda xp: metrics.log_loss(xp.asarray(Y), special.expit(xp.asarray(X[:, 0]))),
        "mean_absolute_error": lambda xp: metrics.mean_absolute_error(xp.asarray(A), xp.asarray(B)),
        "rbf_kernel": lambda xp: metrics.pairwise.rbf_kernel(xp.asarray(X)),
        "PolynomialFeatures": lambda xp: preprocessing.PolynomialFeatures(2).fit_transform(
            xp.asarray(X)
        ),
        "cosine_similarity": lambda xp: metrics.pairwise.cosine_similarity(xp.asarray(X)),
        "euclidean_distances": lambda xp: metrics.pairwise.euclidean_distances(xp.asarray(X)),
        "StandardScaler": lambda xp: preprocessing.StandardScaler().fit_transform(xp.asarray(X)),
        "MinMaxScaler": lambda xp: preprocessing.MinMaxScaler().fit_transform(xp.asarray(X)),
        "Normalizer": lambda xp: preprocessing.Normalizer().fit_transform(xp.asarray(X)),
        "LabelEncoder": lambda xp: preprocessing.LabelEncoder().fit_transform(xp.asarray(Y)),
    }


def main() -> None:
    """Everything once, with tensors and with arrays."""
    found: dict[str, Any] = {}
    for name, function in {**SCIPY, **of_sklearn()}.items():
        wanted = np.asarray(function(np), np.float64).tolist()
        try:
            ours = function(rb)
            found[name] = [np.asarray(ours, np.float64).tolist(), wanted, type(ours).__name__]
        except Exception as error:
            found[name] = [f"{type(error).__name__}: {error}", wanted, ""]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
