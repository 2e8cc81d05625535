// Jobs on rows, each beside the NumPy line that it equals. They move little: what costs is that
// blocks have to meet after them.

const int AXES = 4;  // of rows, each with a stride of its own

struct Rows {  // to[...] = formula(a, b), rows of d numbers that lie anywhere
  i64 kind, meets, ahead;
  i64 code, half;  // the formula, and whether what it gives is stored in 16 bits
  float* to;
  const float *a, *b;
  i64 rows, d, length1, length2, length3;  // how many rows the axes but the first have
  i64 to0, to1, to2, to3, to4;             // strides along the axes and within a row
  i64 a0, a1, a2, a3, a4;
  i64 b0, b1, b2, b3, b4;
};

__device__ float formula(int code, float a, float b) {
  switch (code) {
    case ADD: return a + b;
    case SUBTRACT: return a - b;
    case MULTIPLY: return a * b;
    case DIVIDE: return a / b;
    case TANH: return tanhf(a);
    case COS: return cosf(a);
    case SIN: return sinf(a);
    default: return activated(code, a);
  }
}

__device__ __noinline__ void rows(const Rows& job) {
  const i64 *to = &job.to0, *a = &job.a0, *b = &job.b0;
  const i64 all = job.rows * job.d, step = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += step) {
    i64 row = i / job.d, at[AXES + 1];
    at[4] = i % job.d;
    at[3] = row % job.length3, row /= job.length3;
    at[2] = row % job.length2, row /= job.length2;
    at[1] = row % job.length1, at[0] = row / job.length1;
    i64 target = 0, left = 0, right = 0;
    for (int axis = 0; axis <= AXES; axis++) {
      target += at[axis] * to[axis];
      left += at[axis] * a[axis];
      right += at[axis] * b[axis];
    }
    const float y = formula((int)job.code, job.a[left], job.b ? job.b[right] : 0);
    if (job.half) ((u16*)job.to)[target] = narrow(y);
    else job.to[target] = y;
  }
}

struct Norm {  // layer_norm(x, gain, shift), or rms_norm(x, gain): (rows, d), a warp for a row
  i64 kind, meets, ahead;
  i64 rows, d;
  const float *x, *gain, *shift;  // no shift: no mean either
  float* y;
  double epsilon;
};

__device__ void norm(const Norm& job) {
  const int d = (int)job.d;
  for (i64 row = (i64)blockIdx.x * warps() + warp(); row < job.rows; row += gridDim.x * warps()) {
    const float* x = job.x + row * d;
    float mean = 0, square = 0;
    if (job.shift) {
      for (int i = lane(); i < d; i += LANES) mean += x[i];
      mean = sum(mean) / d;
    }
    for (int i = lane(); i < d; i += LANES) square = fmaf(x[i] - mean, x[i] - mean, square);
    const float deviation = sqrtf(sum(square) / d + (float)job.epsilon);
    for (int i = lane(); i < d; i += LANES) {
      const float y = (x[i] - mean) / deviation * job.gain[i];
      job.y[row * d + i] = job.shift ? y + job.shift[i] : y;
    }
  }
}

struct Gathered {  // table[index] + bias, a row of d numbers
  i64 kind, meets, ahead;
  i64 d;
  const u16* table;
  const i64* index;
  const float* bias;
  float* y;
};

__device__ void gathered(const Gathered& job) {
  const u16* row = job.table + *job.index * job.d;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < job.d; i += gridDim.x * blockDim.x)
    job.y[i] = wide(row[i]) + (job.bias ? job.bias[i] : 0);
}

struct Position {  // y[0] = float(n)
  i64 kind, meets, ahead;
  i64 n;
  float* y;
};

__device__ void position(const Position& job) {
  if (blockIdx.x == 0 && threadIdx.x == 0) *job.y = (float)job.n;
}
