// What one query of each head finds among S keys: softmax(q @ k.T * scale) @ v, where mask (S,) is
// true. The keys of a head are split among blocks; each split leaves its maximum, its sum and its D
// values, which the product that follows joins. So no score is ever stored, and a maximum is found
// while values are added up (Milakov & Gimelshein, 2018).
//
// Keys and values lie in the cache, (heads, capacity, D) of 16 bits; the last one may come from
// where it was computed, and is put into the cache here. Queries, and that key, may still have to be
// turned: number j of D becomes x[j] * cos[j] + x[(j + D / 2) % D] * sin[j].

struct Attention {
  i64 kind, meets, ahead;
  i64 heads, group, S, D, splits;  // `group` query heads share a head of keys
  i64 head;                        // elements from one head of keys to the next
  const float* q;
  u16 *k, *v;
  const float *new_k, *new_v;  // (heads / group, D), or none
  const float *cos, *sin;      // (D,), or none
  const unsigned char* mask;
  float* y;  // (heads, splits, 2 + D)
  double scale;
};

__device__ float turned(const Attention& job, const float* x, int j) {
  if (!job.cos) return x[j];
  const int D = (int)job.D;
  return fmaf(x[(j + D / 2) % D], job.sin[j], x[j] * job.cos[j]);
}

struct Found {  // of some keys: their maximum, the sum of their weights, 8 of the D values
  float most, total, value[8];
};

// Adds what was found among other keys.
__device__ __forceinline__ void add(Found& one, float most, float total, const float* value) {
  const float now = fmaxf(one.most, most);
  const float kept = one.total > 0 ? expf(one.most - now) : 0;
  const float more = total > 0 ? expf(most - now) : 0;
  one.total = fmaf(more, total, one.total * kept);
  for (int i = 0; i < 8; i++) one.value[i] = fmaf(more, value[i], one.value[i] * kept);
  one.most = now;
}

// Asks for this block's keys and values: all but the last are known before queries are.
__device__ void expect_keys(const Attention& job) {
  const int S = (int)job.S, D = (int)job.D, splits = (int)job.splits;
  for (int unit = blockIdx.x; unit < job.heads * splits; unit += gridDim.x) {
    const i64 offset = unit / splits / job.group * job.head, split = unit % splits;
    const u16 *keys = job.k + offset, *values = job.v + offset;
    const i64 first = S * split / splits * D, last = S * (split + 1) / splits * D;
    for (i64 i = first + threadIdx.x * LINE; i < last; i += blockDim.x * LINE) {
      expect(keys + i);
      expect(values + i);
    }
  }
}

__device__ void attention(const Attention& job, float* scratch) {
  const int D = (int)job.D, S = (int)job.S, splits = (int)job.splits, size = D + 2;
  const int width = D / 8, column = threadIdx.x % width * 8;  // lanes for a key, the first number
  const int side = blockDim.x / width, own = threadIdx.x / width;  // keys side by side
  for (int unit = blockIdx.x; unit < job.heads * splits; unit += gridDim.x) {
    const int head = unit / splits, shared = head / (int)job.group, split = unit % splits;
    const int first = (int)((i64)S * split / splits), last = (int)((i64)S * (split + 1) / splits);
    const u16* keys = job.k + shared * job.head + column;
    const u16* values = job.v + shared * job.head + column;
    float q[8];
    for (int i = 0; i < 8; i++)
      q[i] = rounded(turned(job, job.q + (i64)head * D, column + i));
    Found found = {-INFINITY, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
    for (int begin = first; begin < last; begin += side) {
      const int key = begin + own;
      float k[8], v[8], score = 0;
      if (key < last) {
        if (job.new_k && key == S - 1) {
          const i64 at = (i64)shared * D;
          for (int i = 0; i < 8; i++) {
            const u16 a = narrow(turned(job, job.new_k + at, column + i));
            const u16 b = narrow(job.new_v[at + column + i]);
            k[i] = wide(a), v[i] = wide(b);
            if (head % job.group == 0) {
              job.k[shared * job.head + (i64)key * D + column + i] = a;
              job.v[shared * job.head + (i64)key * D + column + i] = b;
            }
          }
        } else {
          const uint4 a = *(const uint4*)(keys + (i64)key * D);
          const uint4 b = *(const uint4*)(values + (i64)key * D);
          widen(a, k);
          widen(b, v);
        }
        for (int i = 0; i < 8; i++) score = fmaf(k[i], q[i], score);
      }
      score = sum(score, width);
      if (key < last && job.mask[key]) add(found, score * (float)job.scale, 1, v);
    }
    for (int d = width; d < LANES; d *= 2) {  // the keys of a warp
      float value[8];
      for (int i = 0; i < 8; i++) value[i] = __shfl_xor_sync(0xffffffffu, found.value[i], d);
      const float most = __shfl_xor_sync(0xffffffffu, found.most, d);
      const float total = __shfl_xor_sync(0xffffffffu, found.total, d);
      add(found, most, total, value);
    }
    if (lane() < width) {
      float* to = scratch + warp() * size;
      if (lane() == 0) to[0] = found.most, to[1] = found.total;
      for (int i = 0; i < 8; i++) to[2 + column + i] = found.value[i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < D; i += blockDim.x) {
      float most = -INFINITY, total = 0, value = 0;
      for (int w = 0; w < warps(); w++) most = fmaxf(most, scratch[w * size]);
      for (int w = 0; w < warps(); w++) {
        const float* part = scratch + w * size;
        const float weight = part[1] > 0 ? expf(part[0] - most) : 0;
        total = fmaf(weight, part[1], total);
        value = fmaf(weight, part[2 + i], value);
      }
      float* to = job.y + (i64)unit * size;
      if (i == 0) to[0] = most, to[1] = total;
      to[2 + i] = value;
    }
    __syncthreads();
  }
}
