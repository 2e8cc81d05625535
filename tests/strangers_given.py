"""What the programs of strangers.py are run on: small arrays, of sizes that are written here."""

import numpy as np

# Those of one program differ, so that none passes for another.
SIZES = {
    "kmeans": {"n": 30, "d": 2, "k": 3},
    "cnn": {"n": 7, "c": 2, "size": 6, "f": 4, "width": 3, "classes": 5},
    "cnn_strided": {"n": 5, "c": 2, "size": 4, "f": 6, "width": 3, "classes": 7},
    "lstm": {"t": 6, "n": 2, "d": 3, "h": 5},
    "fir_filter": {"n": 20, "taps": 7},
    "logistic_regression": {"n": 12, "d": 3, "steps": 15},
    "attention": {"b": 2, "t": 5, "c": 7, "h": 3, "d": 4},
    "pca": {"n": 10, "d": 4, "k": 2},
    "kalman": {"t": 6, "n": 5, "m": 2},
    "life_rolled": {"n": 6, "m": 7, "steps": 3},
    "life_padded": {"n": 5, "m": 8, "steps": 4},
    "jacobi": {"n": 5},
    "conjugate_gradients": {"n": 6},
    "monte_carlo_pi": {"n": 50},
    "resnet": {"n": 2, "c": 5, "size": 12, "f": 4, "classes": 7},
}


def given(name, seed=0):
    """The arguments of the program of that name, of its `SIZES`: new ones, alike every time."""
    return _DRAW[name](np.random.default_rng(seed), **SIZES[name])


def _kmeans(rng, n, d, k):
    centres = 10 * np.arange(k)[:, None] + np.zeros(d)  # none of SIZES comes out empty
    return centres[np.arange(n) % k] + rng.standard_normal((n, d)), k


def _cnn(rng, n, c, size, f, width, classes):
    dense = f * (size // 2) ** 2, classes
    return (
        rng.standard_normal((n, c, size, size)),
        rng.integers(0, classes, n),
        rng.standard_normal((f, c, width, width)),
        rng.standard_normal(f),
        rng.standard_normal(dense) / 10,
        rng.standard_normal(classes),
    )


def _lstm(rng, t, n, d, h):
    shapes = (t, n, d), (d, 4 * h), (h, 4 * h), (4 * h,)
    return tuple(rng.standard_normal(shape) for shape in shapes)


def _fir_filter(rng, n, taps):
    return rng.standard_normal(n), taps


def _logistic_regression(rng, n, d, steps):
    X = rng.standard_normal((n, d))
    return X, (X[:, 0] > 0).astype(int), 0.1, steps


def _attention(rng, b, t, c, h, d):
    shapes = (b, t, c), *[(c, h, d)] * 3, (h, d, c)
    return tuple(rng.standard_normal(shape) for shape in shapes)


def _pca(rng, n, d, k):
    return rng.standard_normal((n, d)), k


def _kalman(rng, t, n, m):
    F, H = np.eye(n) + np.eye(n, k=m), np.eye(m, n)  # places, and speeds that are not seen
    return rng.standard_normal((t, m)), F, H, 0.01 * np.eye(n), np.eye(m), np.zeros(n), np.eye(n)


def _life_rolled(rng, n, m, steps):
    return rng.random((n, m)) < 0.4, steps


def _life_padded(rng, n, m, steps):
    return rng.integers(0, 2, (n, m)), steps


def _jacobi(rng, n):
    return rng.uniform(-1, 1, (n, n)) + 2 * n * np.eye(n), rng.standard_normal(n)


def _conjugate_gradients(rng, n):
    square = rng.standard_normal((n, n))
    return square @ square.T + np.eye(n), rng.standard_normal(n)


def _monte_carlo_pi(rng, n):
    return (n,)


def _convolution(rng, c, f, width, number=""):
    """A convolution and what normalises its result."""
    return {
        f"conv{number}": rng.standard_normal((f, c, width, width)) / 5,
        f"gamma{number}": rng.uniform(0.5, 1.5, f),
        f"beta{number}": rng.standard_normal(f),
    }


def _resnet(rng, n, c, size, f, classes):
    first = _convolution(rng, f, f, 3, 1) | _convolution(rng, f, f, 3, 2)
    second = _convolution(rng, f, 2 * f, 3, 1) | _convolution(rng, 2 * f, 2 * f, 3, 2)
    params = {
        **_convolution(rng, c, f, 3),
        "block1": first,
        "block2": second | {"shortcut": rng.standard_normal((2 * f, f, 1, 1))},
        "W": rng.standard_normal((2 * f, classes)),
        "b": rng.standard_normal(classes),
    }
    return rng.standard_normal((n, c, size, size)), params


_DRAW = {
    "kmeans": _kmeans,
    "cnn": _cnn,
    "cnn_strided": _cnn,
    "lstm": _lstm,
    "fir_filter": _fir_filter,
    "logistic_regression": _logistic_regression,
    "attention": _attention,
    "pca": _pca,
    "kalman": _kalman,
    "life_rolled": _life_rolled,
    "life_padded": _life_padded,
    "jacobi": _jacobi,
    "conjugate_gradients": _conjugate_gradients,
    "monte_carlo_pi": _monte_carlo_pi,
    "resnet": _resnet,
}
