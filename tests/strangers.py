"""Programs as one finds them: plain functions of plain arrays.

What each of them computes is in strangers_by_hand.py.
"""
# ruff: noqa: B007 - how many steps it took is known after the loop

import numpy as np

# k-means


def kmeans(X, k, max_iter=100):
    rng = np.random.default_rng(0)
    centroids = X[rng.choice(len(X), size=k, replace=False)]
    for step in range(max_iter):
        distances = np.sqrt(((X - centroids[:, np.newaxis]) ** 2).sum(axis=2))
        labels = np.argmin(distances, axis=0)
        new_centroids = np.zeros_like(centroids)
        for j in range(k):
            new_centroids[j] = X[labels == j].mean(axis=0)
        if np.all(centroids == new_centroids):
            break
        centroids = new_centroids
    inertia = np.sum((X - centroids[labels]) ** 2)
    print(f"inertia after {step + 1} steps: {inertia:.3f}")
    return centroids, labels, step + 1


# A small convolutional network, by im2col


def im2col(x, fh, fw, stride=1, pad=0):
    N, C, H, W = x.shape
    out_h = (H + 2 * pad - fh) // stride + 1
    out_w = (W + 2 * pad - fw) // stride + 1
    img = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "constant")
    col = np.zeros((N, C, fh, fw, out_h, out_w))
    for i in range(fh):
        i_max = i + stride * out_h
        for j in range(fw):
            j_max = j + stride * out_w
            col[:, :, i, j, :, :] = img[:, :, i:i_max:stride, j:j_max:stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(N * out_h * out_w, -1)


def im2col_strided(x, fh, fw, stride=1, pad=0):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    N, C, H, W = x.shape
    out_h, out_w = (H - fh) // stride + 1, (W - fw) // stride + 1
    s0, s1, s2, s3 = x.strides
    windows = np.lib.stride_tricks.as_strided(
        x,
        shape=(N, out_h, out_w, C, fh, fw),
        strides=(s0, s2 * stride, s3 * stride, s1, s2, s3),
    )
    return windows.reshape(N * out_h * out_w, -1)


def relu(x):
    return np.maximum(0, x)


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def cnn(x, labels, W1, b1, W2, b2, columns=im2col):
    N, _, H, W = x.shape
    F, _, fh, fw = W1.shape
    col = columns(x, fh, fw, stride=1, pad=fh // 2)
    out = np.dot(col, W1.reshape(F, -1).T) + b1
    out = relu(out.reshape(N, H, W, F).transpose(0, 3, 1, 2))
    pooled = out.reshape(N, F, H // 2, 2, W // 2, 2).max(axis=(3, 5))
    probs = softmax(np.dot(pooled.reshape(N, -1), W2) + b2)
    loss = -np.mean(np.log(probs[np.arange(N), labels] + 1e-7))
    accuracy = np.mean(np.argmax(probs, axis=1) == labels)
    return probs, float(loss), float(accuracy)


def cnn_strided(x, labels, W1, b1, W2, b2):
    return cnn(x, labels, W1, b1, W2, b2, columns=im2col_strided)


# LSTM


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_cell(x, h, c, Wx, Wh, b):
    H = h.shape[1]
    gates = x @ Wx + h @ Wh + b
    i = sigmoid(gates[:, :H])
    f = sigmoid(gates[:, H : 2 * H])
    o = sigmoid(gates[:, 2 * H : 3 * H])
    g = np.tanh(gates[:, 3 * H :])
    c = f * c + i * g
    h = o * np.tanh(c)
    return h, c


def lstm(xs, Wx, Wh, b):
    T, N, _ = xs.shape
    H = Wh.shape[0]
    h = np.zeros((N, H))
    c = np.zeros((N, H))
    hs = np.zeros((T, N, H))
    for t in range(T):
        h, c = lstm_cell(xs[t], h, c, Wx, Wh, b)
        hs[t] = h
    return hs


# A low-pass filter


def lowpass(cutoff, taps):
    n = np.arange(taps)
    h = np.sinc(2 * cutoff * (n - (taps - 1) / 2))
    h *= 0.54 - 0.46 * np.cos(2 * np.pi * n / (taps - 1))
    return h / np.sum(h)


def fir_filter(x, taps, cutoff=0.1):
    h = lowpass(cutoff, taps)
    y = np.zeros(len(x))
    for n in range(len(x)):
        for k in range(taps):
            if n - k >= 0:
                y[n] += h[k] * x[n - k]
    return y


# Logistic regression


def logistic_regression(X, y, lr=0.1, steps=100):
    n, d = X.shape
    w = np.zeros(d)
    b = 0.0
    for step in range(steps):
        p = sigmoid(X @ w + b)
        loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
        dw = X.T @ (p - y) / n
        db = np.sum(p - y) / n
        w -= lr * dw
        b -= lr * db
        if step % 10 == 0:
            print(f"step {step}: loss {loss:.3f}")
    predicted = (sigmoid(X @ w + b) >= 0.5).astype(int)
    return w, b, float(loss), np.mean(predicted == y)


# Attention


def attention(x, Wq, Wk, Wv, Wo):
    T, D = x.shape[1], Wq.shape[2]
    q = np.einsum("btc,chd->bthd", x, Wq)
    k = np.einsum("btc,chd->bthd", x, Wk)
    v = np.einsum("btc,chd->bthd", x, Wv)
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(D)
    mask = np.triu(np.ones((T, T)), k=1).astype(bool)
    weights = softmax(np.where(mask, -1e9, scores))
    out = np.einsum("bhqk,bkhd->bqhd", weights, v)
    return np.einsum("bqhd,hdc->bqc", out, Wo)


# Principal components


def pca(X, k):
    mean = X.mean(axis=0)
    centered = X - mean
    _U, S, Vt = np.linalg.svd(centered, full_matrices=False)
    variance = S**2 / (len(X) - 1)
    ratio = variance / variance.sum()
    projected = centered @ Vt[:k].T
    restored = projected @ Vt[:k] + mean
    error = np.mean((X - restored) ** 2)
    return projected, ratio[:k], float(error)


# Kalman filter


class KalmanFilter:
    def __init__(self, F, H, Q, R, x, P):
        self.F, self.H, self.Q, self.R = F, H, Q, R
        self.x, self.P = x, P

    def predict(self):
        self.x = self.F @ self.x
        self.P = self.F @ self.P @ self.F.T + self.Q

    def update(self, z):
        y = z - self.H @ self.x
        S = self.H @ self.P @ self.H.T + self.R
        K = self.P @ self.H.T @ np.linalg.inv(S)
        self.x = self.x + K @ y
        self.P = (np.eye(len(self.x)) - K @ self.H) @ self.P


def kalman(measurements, F, H, Q, R, x, P):
    kf = KalmanFilter(F, H, Q, R, x, P)
    track = np.zeros((len(measurements), len(x)))
    for t, z in enumerate(measurements):
        kf.predict()
        kf.update(z)
        track[t] = kf.x
    return track


# Game of life


def life_rolled(X, steps):
    for _ in range(steps):
        count = sum(
            np.roll(np.roll(X, i, 0), j, 1) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j
        )
        X = (count == 3) | (X & (count == 2))
    return X


def life_padded(grid, steps):
    for _ in range(steps):
        P = np.pad(grid, 1, mode="constant")
        N = P[:-2, :-2] + P[:-2, 1:-1] + P[:-2, 2:]
        N += P[1:-1, :-2] + P[1:-1, 2:]
        N += P[2:, :-2] + P[2:, 1:-1] + P[2:, 2:]
        birth = (N == 3) & (grid == 0)
        survive = ((N == 2) | (N == 3)) & (grid == 1)
        grid = np.zeros_like(grid)
        grid[birth | survive] = 1
    return grid


# Systems of equations


def jacobi(A, b, tol=1e-10, max_iter=1000):
    x = np.zeros_like(b)
    for it in range(max_iter):
        x_new = np.zeros_like(x)
        for i in range(A.shape[0]):
            s1 = np.dot(A[i, :i], x[:i])
            s2 = np.dot(A[i, i + 1 :], x[i + 1 :])
            x_new[i] = (b[i] - s1 - s2) / A[i, i]
        if np.linalg.norm(x_new - x) < tol:
            break
        x = x_new
    return x_new, it + 1


def conjugate_gradients(A, b, tol=1e-10):
    x = np.zeros(len(b))
    r = b - A @ x
    p = r.copy()
    rs_old = np.dot(r, r)
    for i in range(10 * len(b)):
        Ap = A @ p
        alpha = rs_old / np.dot(p, Ap)
        x += alpha * p
        r -= alpha * Ap
        if np.linalg.norm(r) < tol:
            break
        rs_new = np.dot(r, r)
        p = r + (rs_new / rs_old) * p
        rs_old = rs_new
    return x, i + 1


# Pi


def monte_carlo_pi(n):
    rng = np.random.default_rng(0)
    x = rng.random(n)
    y = rng.random(n)
    inside = x**2 + y**2 <= 1
    return 4 * np.sum(inside) / n


# A small residual network


def conv2d(x, w, stride=1, pad=0):
    N, _, H, W = x.shape
    F, _, k, _ = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out_h, out_w = (H + 2 * pad - k) // stride + 1, (W + 2 * pad - k) // stride + 1
    out = np.zeros((N, F, out_h, out_w))
    for i in range(out_h):
        for j in range(out_w):
            patch = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, :, i, j] = np.tensordot(patch, w, axes=([1, 2, 3], [1, 2, 3]))
    return out


def batch_norm(x, gamma, beta, eps=1e-5):
    mean = x.mean(axis=(0, 2, 3), keepdims=True)
    var = x.var(axis=(0, 2, 3), keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + eps)
    return gamma.reshape(1, -1, 1, 1) * x_hat + beta.reshape(1, -1, 1, 1)


def max_pool(x, size=2):
    N, C, H, W = x.shape
    out = np.zeros((N, C, H // size, W // size))
    for i in range(H // size):
        for j in range(W // size):
            window = x[:, :, i * size : (i + 1) * size, j * size : (j + 1) * size]
            out[:, :, i, j] = np.max(window, axis=(2, 3))
    return out


def residual_block(x, p, stride=1):
    out = relu(batch_norm(conv2d(x, p["conv1"], stride, 1), p["gamma1"], p["beta1"]))
    out = batch_norm(conv2d(out, p["conv2"], 1, 1), p["gamma2"], p["beta2"])
    if "shortcut" in p:
        x = conv2d(x, p["shortcut"], stride)
    out += x
    return relu(out)


def resnet(x, params):
    x = relu(batch_norm(conv2d(x, params["conv"], pad=1), params["gamma"], params["beta"]))
    x = max_pool(x)
    x = residual_block(x, params["block1"])
    x = residual_block(x, params["block2"], stride=2)
    x = x.mean(axis=(2, 3))
    return softmax(x @ params["W"] + params["b"])
