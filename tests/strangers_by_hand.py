"""What each of the programs of strangers.py computes, line by line, written down from its lines.

An operation on an array, or on a number of NumPy's that comes of one, is one of its kind for each
element. What Python does with its own numbers is none, nor is the root of one, `np.sqrt(D)`. A
product of matrices is n multiply-adds for each inner product of n terms. What is made of truth
values and whole numbers alone is no FLOP; the mean of truth values is that of floats.
"""

import inspect

import numpy as np

from counting import Cost

# Whether x == 0 is asked in NumPy's own line, as in older versions of it, or x taken as a truth.
SINC_COMPARES = "x == 0" in inspect.getsource(np.sinc)


def lines(*costs):
    return sum(costs, Cost())


def sigmoid(n):
    return Cost(add=n, exp=n) + Cost(add=n, div=n)  # exp(-x), and 1 / (1 + that)


def softmax(rows, n):
    return lines(
        Cost(cmp=rows * (n - 1)),  # the largest of each row
        Cost(add=rows * n, exp=rows * n),  # e
        Cost(add=rows * (n - 1), div=rows * n),  # e / sum(e)
    )


def kmeans(n, d, k, steps):
    """No cluster is empty."""
    step = lines(
        Cost(add=k * n * d, mul=k * n * d),  # (X - centroids) ** 2
        Cost(add=k * n * (d - 1), sqrt=k * n),  # the root of its sum
        Cost(cmp=(k - 1) * n),  # argmin
        Cost(int=k * n),  # labels == j, for each j
        Cost(add=(n - k) * d, div=k * d),  # means: each point is in one of the k
        Cost(cmp=k * d, logic=k * d - 1),  # all(centroids == new_centroids)
    )
    inertia = Cost(add=n * d, mul=n * d) + Cost(add=n * d - 1)  # sum((X - …) ** 2)
    return step * steps + inertia


def cnn(n, c, size, f, width, classes):
    pixels = n * size * size * f
    return lines(
        Cost(fma=pixels * c * width**2, add=pixels),  # dot(col, W1) + b1
        Cost(cmp=pixels),  # relu
        Cost(cmp=pixels // 4 * 3),  # the largest of four
        Cost(fma=pixels // 4 * classes, add=n * classes),  # dot(pooled, W2) + b2
        softmax(n, classes),
        Cost(add=n, log=n),  # log(probs[…] + 1e-7)
        Cost(add=n - 1, div=1) + Cost(add=1),  # -mean
        Cost(cmp=n * (classes - 1), int=n),  # argmax == labels
        Cost(add=n - 1, div=1),  # accuracy
    )


def lstm(t, n, d, h):
    each = n * h
    cell = lines(
        Cost(fma=4 * each * d) + Cost(fma=4 * each * h),  # x @ Wx, h @ Wh
        Cost(add=2 * 4 * each),  # their sum and b
        sigmoid(each) * 3 + Cost(tanh=each),  # i, f, o; g
        Cost(mul=2 * each, add=each),  # f * c + i * g
        Cost(tanh=each, mul=each),  # o * tanh(c)
    )
    return cell * t


def fir_filter(n, taps):
    """There are no more taps than samples."""
    pairs = n * taps - taps * (taps - 1) // 2  # all (n, k) but those with n < k
    return lines(
        Cost(add=taps, mul=taps),  # 2 * cutoff * (n - …)
        Cost(mul=taps, sin=taps, div=taps),  # sinc: sin(pi x) / (pi x)
        Cost(cmp=taps if SINC_COMPARES else 0),
        Cost(mul=taps, div=taps, cos=taps),  # cos(2 * pi * n / …)
        Cost(mul=taps, add=taps) + Cost(mul=taps),  # h *= 0.54 - 0.46 * cos
        Cost(add=taps - 1, div=taps),  # h / sum(h)
        Cost(mul=pairs, add=pairs),  # y[n] += h[k] * x[n - k]
    )


def logistic_regression(n, d, steps):
    """Answers are whole numbers, 0 or 1."""
    probability = Cost(fma=n * d, add=n) + sigmoid(n)  # sigmoid(X @ w + b)
    step = lines(
        probability,
        Cost(log=n, mul=n),  # y * log(p)
        Cost(int=n),  # 1 - y
        Cost(add=n, log=n, mul=n),  # (1 - y) * log(1 - p)
        Cost(add=n) + Cost(add=n - 1, div=1) + Cost(add=1),  # -mean(… + …)
        Cost(add=n, fma=d * n, div=d),  # dw
        Cost(add=n) + Cost(add=n - 1, div=1),  # db
        Cost(mul=d, add=d),  # w -= lr * dw
        Cost(mul=1, add=1),  # b -= lr * db
    )
    predicted = probability + Cost(cmp=n)  # sigmoid(X @ w + b) >= 0.5
    return step * steps + predicted + Cost(int=n, add=n - 1, div=1)  # mean(predicted == y)


def attention(b, t, c, h, d):
    return lines(
        Cost(fma=b * t * h * d * c) * 3,  # q, k, v
        Cost(fma=b * h * t * t * d, div=b * h * t * t),  # q k / sqrt(D)
        softmax(b * h * t, t),
        Cost(fma=b * t * h * d * t),  # weights v
        Cost(fma=b * t * c * h * d),  # out Wo
    )


def pca(n, d, k):
    """Of no fewer samples than features."""
    r = d  # singular values
    return lines(
        Cost(fma=7 * n * d**2 + 4 * d**3),  # svd, as published: 14 n d^2 + 8 d^3 FLOP
        Cost(add=(n - 1) * d, div=d),  # mean
        Cost(add=n * d),  # X - mean
        Cost(mul=r, div=r),  # S**2 / …
        Cost(add=r - 1, div=r),  # variance / sum(variance)
        Cost(fma=n * k * d),  # projected
        Cost(fma=n * d * k, add=n * d),  # restored
        Cost(add=n * d, mul=n * d) + Cost(add=n * d - 1, div=1),  # mean((X - restored) ** 2)
    )


def kalman(t, n, m):
    step = lines(
        Cost(fma=n * n),  # F @ x
        Cost(fma=2 * n**3, add=n * n),  # F @ P @ F.T + Q
        Cost(fma=m * n, add=m),  # y
        Cost(fma=m * n * n) + Cost(fma=m * m * n, add=m * m),  # H @ P @ H.T + R
        Cost(fma=n * m * n) + Cost(fma=n * m * m),  # P @ H.T @ inv(S)
        Cost(mul=(m**3 + 2 * m) // 3, add=(2 * m**3 - 3 * m**2 + m) // 6),  # LU of S
        Cost(mul=m**3, add=m**3 - m**2),  # two triangles for each column of the identity
        Cost(fma=n * m, add=n),  # x + K @ y
        Cost(fma=n * n * m, add=n * n) + Cost(fma=n**3),  # (I - K @ H) @ P
    )
    return step * t


def life_rolled(n, m, steps):
    cells = n * m
    step = lines(
        Cost(int=8 * cells),  # Python's sum begins with 0 + the first
        Cost(int=2 * cells),  # count == 3, count == 2
        Cost(logic=2 * cells),  # … | (X & …)
    )
    return step * steps


def life_padded(n, m, steps):
    cells = n * m
    step = lines(
        Cost(int=7 * cells),  # N: eight neighbours
        Cost(int=2 * cells, logic=cells),  # birth
        Cost(int=3 * cells, logic=2 * cells),  # survive
        Cost(logic=cells),  # birth | survive
    )
    return step * steps


def jacobi(n, steps):
    step = lines(
        Cost(fma=n * (n - 1)),  # s1 and s2: all of a row but its diagonal
        Cost(add=2 * n, div=n),  # (b[i] - s1 - s2) / A[i, i]
        Cost(add=n) + Cost(fma=n, sqrt=1, cmp=1),  # norm(x_new - x) < tol
    )
    return step * steps


def conjugate_gradients(n, steps):
    """The last step is the one that ends by `break`."""
    start = Cost(fma=n * n, add=n) + Cost(fma=n)  # b - A @ x, dot(r, r)
    step = lines(
        Cost(fma=n * n),  # Ap
        Cost(fma=n, div=1),  # alpha
        Cost(mul=n, add=n) * 2,  # x += alpha * p, r -= alpha * Ap
        Cost(fma=n, sqrt=1, cmp=1),  # norm(r) < tol
    )
    more = lines(
        Cost(fma=n),  # rs_new
        Cost(div=1, mul=n, add=n),  # p = r + (rs_new / rs_old) * p
    )
    return start + step * steps + more * (steps - 1)


def monte_carlo_pi(n):
    return lines(
        Cost(mul=2 * n, add=n, cmp=n),  # x**2 + y**2 <= 1
        Cost(int=n - 1),  # sum(inside)
        Cost(int=1, div=1),  # 4 * … / n
    )


def convolution(n, c, f, out, width):
    return Cost(fma=n * f * out * out * c * width * width)


def batch_norm(n, c, size):
    e = n * c * size * size
    mean = Cost(add=e - c, div=c)
    return lines(
        mean,
        mean + Cost(add=e, mul=e) + mean,  # var: the mean square of x - mean(x)
        Cost(add=e) + Cost(add=c, sqrt=c) + Cost(div=e),  # x_hat
        Cost(mul=e, add=e),  # gamma * x_hat + beta
    )


def residual_block(n, c, f, out, shortcut):
    e = n * f * out * out
    return lines(
        convolution(n, c, f, out, 3) + batch_norm(n, f, out) + Cost(cmp=e),
        convolution(n, f, f, out, 3) + batch_norm(n, f, out),
        convolution(n, c, f, out, 1) if shortcut else Cost(),
        Cost(add=e) + Cost(cmp=e),  # relu(out + x)
    )


def resnet(n, c, size, f, classes):
    half, quarter = size // 2, size // 4
    return lines(
        convolution(n, c, f, size, 3) + batch_norm(n, f, size) + Cost(cmp=n * f * size**2),
        Cost(cmp=n * f * half**2 * 3),  # max_pool: the largest of four
        residual_block(n, f, f, half, False),  # block1
        residual_block(n, f, 2 * f, quarter, True),  # block2
        Cost(add=n * 2 * f * (quarter**2 - 1), div=n * 2 * f),  # x.mean(axis=(2, 3))
        Cost(fma=n * 2 * f * classes, add=n * classes),  # x @ W + b
        softmax(n, classes),
    )


# Of the name of a program: its operations, of its sizes. How many `steps` those of UNTIL take shows
# at the end; it is what they return last.
TOTALS = {
    "kmeans": kmeans,
    "cnn": cnn,
    "cnn_strided": cnn,
    "lstm": lstm,
    "fir_filter": fir_filter,
    "logistic_regression": logistic_regression,
    "attention": attention,
    "pca": pca,
    "kalman": kalman,
    "life_rolled": life_rolled,
    "life_padded": life_padded,
    "jacobi": jacobi,
    "conjugate_gradients": conjugate_gradients,
    "monte_carlo_pi": monte_carlo_pi,
    "resnet": resnet,
}
UNTIL = {"kmeans", "jacobi", "conjugate_gradients"}
