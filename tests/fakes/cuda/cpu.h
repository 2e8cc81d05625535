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
  std::vector<long> shuffles;
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
JUMPS static void pause() {
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
  else while (b.turn == turn) pause();
}
static void __syncthreads() { meet(block->all); }
static float __shfl_xor_sync(unsigned, float value, int distance) {
  const int me = threadIdx.x, other = me ^ distance;
  auto& lanes = block->lanes[block->shuffles[me]++ % 2];  // of the last shuffle some may still read
  lanes[me] = value;
  meet(block->warps[me / LANES]);
  return lanes[other];
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
  for (int left = threads; left;)
    for (int i = 0; i < threads; i++)
      if (!own.fibres[i].over) go_on(i), left -= own.fibres[i].over;
  all_multiplied += multiplied, all_exponentials += exponentials;
  multiplied = exponentials = 0;
}
