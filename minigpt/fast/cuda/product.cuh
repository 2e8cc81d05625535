// y = act(made_of(x) @ w.T + bias) + residual, of one row x (K,): rows of w (N, K) are shared out among
// blocks, and parts of rows among their warps. Weights come through a ring of copies that each
// thread writes and reads alone, so no barrier stands in their way: while a job ends, or waits for
// others, those of the next product are on their way already.

enum { PLAIN, LAYER_NORM, RMS_NORM, GATED, PARTS };  // what x is made of

struct Product {
  i64 kind, meets, ahead;
  i64 made_of, act, K, N;
  i64 parts;  // that a row is cut into, each a warp's
  const u16* w;
  const float *x, *bias, *residual;
  const float *gain, *shift;  // of a norm
  const float* up;            // act(x) * up is what is multiplied, if gated
  i64 gate;                   // the formula that opens it
  i64 D, splits;              // of heads that attention left in parts
  float* y;
  double epsilon;
};

// A warp's place among the parts of a block's rows: part 0 of row 0 is the first warp's, and so on.
struct Place {
  int row, part;
  int rows_on, parts_on;  // from one place to the next, so that nothing is divided on the way
};

__device__ __forceinline__ Place first_place(int parts) {
  return {warp() / parts, warp() % parts, warps() / parts, warps() % parts};
}

__device__ __forceinline__ void go_on(Place& at, int parts) {
  at.row += at.rows_on;
  at.part += at.parts_on;
  if (at.part >= parts) at.part -= parts, at.row++;
}

__device__ __forceinline__ int per_part(int V, int parts) { return (V + parts - 1) / parts; }

struct Stream {  // of a thread: its pieces of weight, job after job, 16 bytes each
  int of;           // the job that it asks for
  int asked, head;  // how many pieces are in the ring, and where the first of them lies
  Place at;
  int rows, parts, V, per;
  int piece, end;  // the next one of this thread, and where the warp's part ends
  const uint4 *first, *row;
};

__device__ __forceinline__ void enter(Stream& s) {
  s.row = s.first + (i64)s.at.row * s.V;
  s.piece = s.at.part * s.per + lane();
  s.end = min(s.V, (s.at.part + 1) * s.per);
}

__device__ __forceinline__ void start(Stream& s, const Product& job, int number) {
  const int begin = share(job.N, blockIdx.x);
  s.of = number;
  s.V = (int)job.K / 8;
  s.parts = (int)job.parts;
  s.per = per_part(s.V, s.parts);
  s.first = (const uint4*)job.w + (i64)begin * s.V;
  s.rows = share(job.N, blockIdx.x + 1) - begin;
  s.at = first_place(s.parts);
  enter(s);
}

// Asks for the next piece, of this job or of the next product; false if there is none.
__device__ __forceinline__ bool ask(Stream& s, uint4* ring, const Product& job, int number,
                                    const Product& next, int ahead) {
  while (s.at.row >= s.rows) {
    const bool own = s.of < number && job.kind == PRODUCT;
    if (!own && s.of >= ahead) return false;
    start(s, own ? job : next, own ? number : ahead);
  }
  const int slot = (s.head + s.asked) % DEPTH;
  if (s.piece < s.end) fetch(ring + slot * blockDim.x + threadIdx.x, s.row + s.piece);
  fetched();
  s.asked++;
  s.piece += LANES;
  if (s.piece - lane() >= s.end) {
    go_on(s.at, s.parts);
    enter(s);
  }
  return true;
}

__device__ __forceinline__ uint4 take(Stream& s, uint4* ring) {
  if (s.asked == DEPTH) wait<DEPTH - 1>();
  else wait<0>();  // the ring runs dry: nothing more was to be asked for
  const uint4 piece = ring[s.head * blockDim.x + threadIdx.x];
  s.head = (s.head + 1) % DEPTH;
  s.asked--;
  return piece;
}

// Where number i of x lies: a thread reads 8 side by side as two times 4, and its neighbour the
// next ones, without a conflict of banks.
__device__ __forceinline__ int place(int i, int K) {
  return i / 8 * 4 + i % 4 + (i % 8 / 4) * (K / 2);
}

// Number i of what attention left in parts: a maximum, a sum and D values for each split, all on
// their way at once.
__device__ float joined(const Product& job, int i) {
  const int size = (int)job.D + 2;
  const float* part = job.x + (i64)(i / job.D) * job.splits * size;
  float most = -INFINITY, maximum[SPLITS], sum[SPLITS], of[SPLITS], total = 0, value = 0;
  for (int s = 0; s < SPLITS; s++) {
    const bool there = s < job.splits;
    maximum[s] = there ? part[s * size] : -INFINITY;
    sum[s] = there ? part[s * size + 1] : 0;
    of[s] = there ? part[s * size + 2 + i % job.D] : 0;
  }
  for (int s = 0; s < SPLITS; s++) most = fmaxf(most, maximum[s]);
  for (int s = 0; s < SPLITS; s++)
    if (sum[s] > 0) {
      const float weight = expf(maximum[s] - most);
      total = fmaf(weight, sum[s], total);
      value = fmaf(weight, of[s], value);
    }
  return value / total;
}

// x in shared memory, made of what the job says, rounded as the operand of a product is.
__device__ void prepare(const Product& job, float* x, float* some) {
  const int K = (int)job.K;
  const bool centred = job.made_of == LAYER_NORM, normed = centred || job.made_of == RMS_NORM;
  float total = 0, square = 0;
  for (int i = threadIdx.x; i < K; i += blockDim.x) {
    float v = job.made_of == PARTS ? joined(job, i) : job.x[i];
    if (job.made_of == GATED) v = activated((int)job.gate, v) * job.up[i];
    x[place(i, K)] = normed ? v : rounded(v);
    total += v;
  }
  if (normed) {
    const float mean = centred ? sum_of_block(total, some) / K : 0;
    for (int i = threadIdx.x; i < K; i += blockDim.x) {
      const float v = x[place(i, K)] - mean;
      square = fmaf(v, v, square);
    }
    const float deviation = sqrtf(sum_of_block(square, some) / K + (float)job.epsilon);
    for (int i = threadIdx.x; i < K; i += blockDim.x) {
      float v = (x[place(i, K)] - mean) / deviation * job.gain[i];
      if (centred) v += job.shift[i];
      x[place(i, K)] = rounded(v);
    }
  }
  __syncthreads();
}

__device__ void product(const Product& job, int number, const Product& next, int ahead, Stream& s,
                        uint4* ring, float* x, float* some) {
  const int K = (int)job.K, V = K / 8, parts = (int)job.parts, per = per_part(V, parts);
  const int begin = share(job.N, blockIdx.x), rows = share(job.N, blockIdx.x + 1) - begin;
  float* sums = x + K;
  prepare(job, x, some);
  for (Place at = first_place(parts); at.row < rows; go_on(at, parts)) {
    const int end = min(V, (at.part + 1) * per);
    float y = 0;
    for (int piece = at.part * per + lane(); piece - lane() < end; piece += LANES) {
      const uint4 stored = take(s, ring);
      ask(s, ring, job, number, next, ahead);
      if (piece < end) {
        float w[8];
        widen(stored, w);
        const float4 low = ((const float4*)x)[piece], high = ((const float4*)(x + K / 2))[piece];
        const float given[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
        for (int i = 0; i < 8; i++) y = fmaf(w[i], given[i], y);
      }
    }
    y = sum(y);
    if (lane() == 0) sums[at.row * parts + at.part] = y;
  }
  __syncthreads();
  for (int row = threadIdx.x; row < rows; row += blockDim.x) {
    float y = 0;
    for (int part = 0; part < parts; part++) y += sums[row * parts + part];
    const int at = begin + row;
    if (job.bias) y += job.bias[at];
    y = activated((int)job.act, y);
    if (job.residual) y += job.residual[at];
    job.y[at] = y;
  }
}
