// What a prompt asks for between the products that cuBLAS does: norms, activations, and attention
// without a stored square of scores. Each is a kernel of its own.

extern "C" __global__ void __launch_bounds__(256)
norms(const float* x, const float* gain, const float* shift, float* y, i64 rows, i64 d, double epsilon) {
  norm({NORM, 0, 0, rows, d, x, gain, shift, y, epsilon});
}

extern "C" __global__ void __launch_bounds__(256)
activations(const float* x, float* y, i64 n, i64 code) {
  const i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
    y[i] = activated((int)code, x[i]);
}

const int TILE = 64;  // queries of a block, 16 for each warp, and keys that they meet at a time

struct Prompt {  // q (B, heads, T, D) anywhere but for its last axis; k, v (B, heads / group, S, D)
  const float* q;
  const u16 *k, *v;
  const unsigned char* mask;  // (T, S)
  float* y;                   // (B, heads, T, D)
  i64 heads, group, T, S;
  i64 q_batch, q_head, q_token, head;  // elements from one to the next
  float scale;
};

__device__ __forceinline__ u32 pair(float a, float b) { return narrow(a) | (u32)narrow(b) << 16; }

// Two numbers of a row of q, from column i on; 0 beyond the last row.
__device__ __forceinline__ u32 two_of(const float* q, i64 row, const Prompt& job, int i) {
  const float* x = q + row * job.q_token + i;
  return row < job.T ? pair(x[0], x[1]) : 0;
}

// A thread holds what the units for products of matrices want of it: of its two rows, 8 apart, two
// numbers side by side in each 8 columns (PTX, "Matrix Fragments for mma.m16n8k16").
template <int D> __device__ void attention_of_prompt(const Prompt& job) {
  __shared__ uint4 key_tile[TILE * (D + 8) / 8], value_tile[TILE * (D + 8) / 8];
  u16 *keys = (u16*)key_tile, *values = (u16*)value_tile;  // rows D + 8 apart: other banks
  const int W = D + 8, g = lane() / 4, t = lane() % 4 * 2;
  const i64 tiles = (job.T + TILE - 1) / TILE, unit = blockIdx.x / tiles;  // a head of a sequence
  const i64 stored = (unit / job.heads * (job.heads / job.group) + unit % job.heads / job.group) * job.head;
  const float* q = job.q + unit / job.heads * job.q_batch + unit % job.heads * job.q_head;
  const i64 first = blockIdx.x % tiles * TILE + warp() * 16 + g, row[2] = {first, first + 8};
  u32 a[D / 16][4];
  for (int i = 0; i < D / 16; i++)
    for (int e = 0; e < 4; e++) a[i][e] = two_of(q, row[e % 2], job, i * 16 + t + e / 2 * 8);
  float o[D / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};

  for (i64 begin = 0; begin < job.S; begin += TILE) {
    u32 allowed = 0;
    for (int i = 0; i < 32; i++) {
      const i64 r = row[i % 4 / 2], column = begin + i / 4 * 8 + t + i % 2;
      if (r < job.T && column < job.S && job.mask[r * job.S + column]) allowed |= 1u << i;
    }
    if (!__syncthreads_or(allowed != 0)) continue;  // nor does anybody still read the last tile
    for (int i = threadIdx.x; i < TILE * D / 8; i += blockDim.x) {
      const int key = i / (D / 8), at = key * W / 8 + i % (D / 8);
      const i64 from = stored + (begin + key) * D + i % (D / 8) * 8;
      if (begin + key < job.S) {
        fetch(key_tile + at, (const uint4*)(job.k + from));
        fetch(value_tile + at, (const uint4*)(job.v + from));
      } else {
        key_tile[at] = value_tile[at] = {0, 0, 0, 0};
      }
    }
    fetched();
    wait<0>();
    __syncthreads();

    float s[8][4] = {}, now[2] = {most[0], most[1]}, kept[2];
    for (int j = 0; j < 8; j++)
      for (int i = 0; i < D / 16; i++) {
        const u16* b = keys + (j * 8 + g) * W + i * 16 + t;
        multiply(s[j], a[i], *(const u32*)b, *(const u32*)(b + 8));
      }
    for (int j = 0; j < 8; j++)
      for (int e = 0; e < 4; e++) {
        s[j][e] = allowed >> (j * 4 + e) & 1 ? s[j][e] * job.scale : -INFINITY;
        now[e / 2] = fmaxf(now[e / 2], s[j][e]);
      }
    for (int h = 0; h < 2; h++) {
      for (int d = 1; d < 4; d *= 2) now[h] = fmaxf(now[h], __shfl_xor_sync(0xffffffffu, now[h], d));
      kept[h] = most[h] > -INFINITY ? expf(most[h] - now[h]) : 0;
      total[h] *= kept[h];
      most[h] = now[h];
    }
    for (int j = 0; j < 8; j++)
      for (int e = 0; e < 4; e++) {
        s[j][e] = s[j][e] > -INFINITY ? expf(s[j][e] - now[e / 2]) : 0;
        total[e / 2] += s[j][e];
      }
    for (int n = 0; n < D / 8; n++)
      for (int e = 0; e < 4; e++) o[n][e] *= kept[e / 2];
    for (int j = 0; j < 8; j += 2) {
      const u32 p[4] = {pair(s[j][0], s[j][1]), pair(s[j][2], s[j][3]), pair(s[j + 1][0], s[j + 1][1]),
                        pair(s[j + 1][2], s[j + 1][3])};
      for (int n = 0; n < D / 8; n++) {
        u32 b[2];
        load_turned(b, values + (j * 8 + lane() % 16) * W + n * 8);
        multiply(o[n], p, b[0], b[1]);
      }
    }
  }
  for (int h = 0; h < 2; h++) total[h] = sum(total[h], 4);
  for (int n = 0; n < D / 8; n++)
    for (int e = 0; e < 4; e++)
      if (row[e / 2] < job.T)
        job.y[(unit * job.T + row[e / 2]) * D + n * 8 + t + e % 2] = o[n][e] / total[e / 2];
}

#define ATTENTION_OF(D)                                                                          \
  extern "C" __global__ void __launch_bounds__(128) attention_##D(                               \
      const float* q, const u16* k, const u16* v, const unsigned char* mask, float* y, i64 heads, \
      i64 group, i64 T, i64 S, i64 q_batch, i64 q_head, i64 q_token, i64 head, double scale) {   \
    attention_of_prompt<D>({q, k, v, mask, y, heads, group, T, S, q_batch, q_head, q_token, head, \
                            (float)scale});                                                      \
  }
ATTENTION_OF(64)
ATTENTION_OF(128)
