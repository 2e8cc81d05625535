// Jobs, and what those who do them have in common. Python reads the structures in these files for
// the order of their words: all have 8 bytes, and the first three are those of `Job`.

#ifndef DEPTH
#define DEPTH 16  // pieces of weight that each thread has on their way: a power of two
#endif
#ifndef THREADS
#define THREADS 512  // of a block, at most: with more, registers spill
#endif

const int WORDS = 32;  // of a job
const int LINE = 64;   // numbers of 16 bits in a line of a cache
const int SPLITS = 8;  // of the keys of a head, at most

enum { PRODUCT, ATTENTION, ROWS, NORM, GATHERED, POSITION };  // what a job is

struct Job {
  i64 kind;
  i64 meets;  // whether all blocks meet before it, for it needs what others wrote
  i64 ahead;  // the next product among the jobs, whose weights may already come
};

struct Entry {  // a job at position n: origin + n * slope, word by word
  i64 origin[WORDS], slope[WORDS];
};

__device__ __forceinline__ int warp() { return threadIdx.x / LANES; }
__device__ __forceinline__ int lane() { return threadIdx.x % LANES; }
__device__ __forceinline__ int warps() { return blockDim.x / LANES; }

// The first of N things that is this block's, if they are shared out evenly.
__device__ __forceinline__ int share(i64 N, int block) { return (int)(N * block / gridDim.x); }

// The sum over a warp, over `width` lanes side by side, or over a block (`some` has room for it).
// Each is of a fixed order: the same numbers give the same sum, bit by bit.
__device__ __forceinline__ float sum(float x, int width = LANES) {
  for (int d = width / 2; d; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

__device__ float sum_of_block(float x, float* some) {
  x = sum(x);
  __syncthreads();  // whoever still reads the last one
  if (lane() == 0) some[warp()] = x;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < warps(); i++) total += some[i];
  return total;
}

// Eight numbers of 16 bits, widened.
__device__ __forceinline__ void widen(uint4 piece, float* x) {
  const u32 word[4] = {piece.x, piece.y, piece.z, piece.w};
  for (int i = 0; i < 4; i++) {
    x[2 * i] = wide(word[i] & 0xffff);
    x[2 * i + 1] = wide(word[i] >> 16);
  }
}

// A number as the left operand of a product is rounded.
__device__ __forceinline__ float rounded(float x) { return wide(narrow(x)); }

// What is done to every number by itself: all of these to rows, some to what a product gives.
enum { COPY, ADD, SUBTRACT, MULTIPLY, DIVIDE, TANH, COS, SIN, GELU, GELU_EXACT, SILU, RELU };

__device__ __forceinline__ float activated(int code, float x) {
  switch (code) {
    case GELU: return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * (x * x * x))));
    case GELU_EXACT: {  // its tail of the normal distribution is that of `ops.gelu_exact`
      const float z = fabsf(x), t = 1 / (1 + 0.2316419f * z);
      float tail = fmaf(t, 1.330274429f, -1.821255978f);
      tail = fmaf(t, fmaf(t, fmaf(t, tail, 1.781477937f), -0.356563782f), 0.319381530f) * t;
      return fmaxf(x, 0) - z * (tail * expf(-0.5f * (x * x)) * 0.39894228040143268f);
    }
    case SILU: return x / (1.0f + expf(-x));
    case RELU: return x < 0 ? 0 : x;  // NaN stays
    default: return x;
  }
}
