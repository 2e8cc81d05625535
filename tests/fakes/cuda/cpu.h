// CUDA on a CPU, as much as the kernels use. A block is a thread of the system, its threads are
// fibres that really wait for each other; what is multiplied is counted. No GPU code runs here.
#define ON_CPU
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

struct uint4 { unsigned x, y, z, w; };
struct float4 { float x, y, z, w; };
struct dim { int x; };
#define __device__
#define JUMPS __attribute__((noinline, no_sanitize_address))
#define __global__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __shared__ static thread_local  // of a block, that is of a thread of the system
const int LANES = 32;
using std::min;

struct Barrier { int size = 0, here = 0; long turn = 0; };
struct Copy { void* to; const void* from; };
struct Fibre {
  ucontext_t first;
  void* state[5];
  bool begun = false, over = false;
  char* stack;
  std::vector<std::vector<Copy>> on_their_way{1};  // groups; the last one is open
};
struct Block {
  std::vector<Fibre> fibres;
  ucontext_t home;
  void* state[5];
  std::vector<Barrier> warps;
  Barrier all;
  std::vector<float> lanes[2];
  std::vector<long> shuffles, turns;
  int votes[3] = {0, 0, 0};
  std::vector<unsigned> fragments;  // what the threads of a warp hold of matrices
  std::vector<char> memory;
};
static thread_local Block* block;
static thread_local dim threadIdx, blockIdx, blockDim, gridDim;

static void (*body)(void**);
static void** arguments;

// Fibres. The first entry is by `swapcontext`, all others by a jump, which asks no system.
JUMPS static void home() { __builtin_longjmp(block->state, 1); }
static void fibre(int me) {
  threadIdx.x = me;
  body(arguments);
  block->fibres[me].over = true;
  home();
}
JUMPS static void rest() {
  if (__builtin_setjmp(block->fibres[threadIdx.x].state) == 0) home();
}
JUMPS static void resume(Fibre& f) { __builtin_longjmp(f.state, 1); }
JUMPS static void go_on(int me) {
  Fibre& f = block->fibres[me];
  threadIdx.x = me;
  if (__builtin_setjmp(block->state)) return;
  if (f.begun) resume(f);
  f.begun = true;
  swapcontext(&block->home, &f.first);
}
static void meet(Barrier& b) {
  const long turn = b.turn;
  if (++b.here == b.size) b.here = 0, b.turn++;
  else while (b.turn == turn) rest();
}
static void __syncthreads() { meet(block->all); }
static float __shfl_xor_sync(unsigned, float value, int distance) {
  const int me = threadIdx.x, other = me ^ distance;
  auto& lanes = block->lanes[block->shuffles[me]++ % 2];  // of the last shuffle some may still read
  lanes[me] = value;
  meet(block->warps[me / LANES]);
  return lanes[other];
}

static int __syncthreads_or(int yes) {
  const long turn = block->turns[threadIdx.x]++;
  block->votes[turn % 3] |= yes;
  meet(block->all);
  block->votes[(turn + 2) % 3] = 0;  // nobody is there yet, nor still there
  return block->votes[turn % 3];
}

// Arithmetic, counted.
static thread_local unsigned long long multiplied, exponentials;
static std::atomic<unsigned long long> all_multiplied, all_exponentials;
static float counted_fma(float a, float b, float c) { return multiplied++, fmaf(a, b, c); }
static float counted_exp(float x) { return exponentials++, expf(x); }
#define fmaf counted_fma
#define expf counted_exp
static float wide(unsigned bits) {
  const unsigned short narrowed = (unsigned short)bits;
  _Float16 half;
  memcpy(&half, &narrowed, 2);
  return (float)half;
}
static unsigned short narrow(float x) {
  const _Float16 half = (_Float16)x;
  unsigned short bits;
  memcpy(&bits, &half, 2);
  return bits;
}

// Matrices that a warp holds together, as PTX lays them out.
static float half_of(unsigned word, int i) { return wide(i ? word >> 16 : word & 0xffff); }
static void multiply(float* d, const unsigned* a, unsigned b0, unsigned b1) {
  const int me = threadIdx.x, lane = me % LANES;
  unsigned* own = block->fragments.data() + (me - lane) * 6;
  for (int i = 0; i < 4; i++) own[lane * 6 + i] = a[i];
  own[lane * 6 + 4] = b0, own[lane * 6 + 5] = b1;
  meet(block->warps[me / LANES]);
  for (int e = 0; e < 4; e++) {
    const int row = lane / 4, column = lane % 4 * 2 + e % 2;
    for (int k = 0; k < 16; k++) {
      const unsigned* left = own + (row * 4 + k % 8 / 2) * 6;
      const unsigned* right = own + (column * 4 + k % 8 / 2) * 6;
      d[e] = fmaf(half_of(left[k / 8 * 2 + e / 2], k % 2), half_of(right[4 + k / 8], k % 2), d[e]);
    }
  }
  meet(block->warps[me / LANES]);
}
static void load_turned(unsigned* b, const unsigned short* row) {
  const int me = threadIdx.x, lane = me % LANES;
  auto* rows = reinterpret_cast<const unsigned short**>(block->fragments.data() + (me - lane) * 6);
  rows[lane] = row;
  meet(block->warps[me / LANES]);
  for (int i = 0; i < 2; i++) {
    const int first = i * 8 + lane % 4 * 2;
    b[i] = rows[first][lane / 4] | (unsigned)rows[first + 1][lane / 4] << 16;
  }
  meet(block->warps[me / LANES]);
}

// Copies on their way arrive as late as they may: when they are waited for.
static std::vector<std::vector<Copy>>& on_their_way() { return block->fibres[threadIdx.x].on_their_way; }
static void fetch(uint4* to, const uint4* from) { on_their_way().back().push_back({to, from}); }
static void fetched() { on_their_way().push_back({}); }
template <int N> static void wait() {
  auto& groups = on_their_way();
  while ((int)groups.size() > N + 1) {
    for (auto& copy : groups[0]) memcpy(copy.to, copy.from, 16);
    groups.erase(groups.begin());
  }
}

static void expect(const void* at) { __builtin_prefetch(at); }

static unsigned arrive(unsigned* counter) {
  return reinterpret_cast<std::atomic<unsigned>*>(counter)->fetch_add(1, std::memory_order_acq_rel);
}
static unsigned seen(unsigned* counter) {
  return reinterpret_cast<std::atomic<unsigned>*>(counter)->load(std::memory_order_acquire);
}
static void again(int& tries) {
  if (++tries > 1 << 24) abort();
  std::this_thread::yield();
}
#define SHARED(type, name) type* name = (type*)(((size_t)block->memory.data() + 15) / 16 * 16)

static void run_block(int index, int blocks, int threads, size_t shared) {
  Block own;
  block = &own;
  blockIdx.x = index, blockDim.x = threads, gridDim.x = blocks;
  own.all.size = threads;
  own.memory.assign(shared + 16, (char)0xff);  // NaN: nobody may rely on what is in it
  own.fibres.resize(threads), own.shuffles.assign(threads, 0);
  own.turns.assign(threads, 0), own.fragments.resize(threads * 6);
  for (auto& lanes : own.lanes) lanes.resize(threads);
  for (int w = 0; w < threads / LANES; w++) own.warps.emplace_back().size = LANES;
  const size_t size = 1 << 16;
  std::vector<char> stacks(threads * size);
  for (int i = 0; i < threads; i++) {
    Fibre& f = own.fibres[i];
    getcontext(&f.first);
    f.first.uc_stack.ss_sp = stacks.data() + i * size, f.first.uc_stack.ss_size = size;
    f.first.uc_link = nullptr;
    makecontext(&f.first, (void (*)())fibre, 1, i);
  }
  unsigned chance = index + 1;  // nobody may rely on who comes first: half of the warps rest a while
  for (int left = threads, round = 0; left; round++) {
    if (round % 8 == 0) chance = chance * 1664525 + 1013904223;
    for (int i = 0; i < threads; i++)
      if (!own.fibres[i].over && chance >> i / LANES % 16 + 16 & 1) go_on(i), left -= own.fibres[i].over;
  }
  all_multiplied += multiplied, all_exponentials += exponentials;
  multiplied = exponentials = 0;
}
