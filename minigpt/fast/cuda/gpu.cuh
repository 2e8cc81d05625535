// What a GPU is asked for beside arithmetic. A test has the same names for a CPU.

typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

#ifndef ON_CPU
#ifdef __CUDACC_RTC__
#define INFINITY __int_as_float(0x7f800000)
#endif

const int LANES = 32;
const int PATIENCE = 1 << 23;  // rounds of waiting, seconds: what waits longer would wait forever

#define SHARED(type, name) extern __shared__ type name[]

__device__ __forceinline__ float wide(u32 half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((u16)half));
  return x;
}

__device__ __forceinline__ u16 narrow(float x) {
  u16 half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
}

// 16 bytes of global memory on their way to shared memory; then the end of a group of such copies;
// then a wait until at most N groups are on their way. Before sm_80 a copy is there at once.
__device__ __forceinline__ void fetch(uint4* to, const uint4* from) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from) : "memory");
#else
  *to = *from;
#endif
}

__device__ __forceinline__ void fetched() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int N> __device__ __forceinline__ void wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// Asks for a line of the cache that all blocks share: it may be there when it is needed.
__device__ __forceinline__ void expect(const void* at) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}

// d += a @ b, matrices (16, 16) and (16, 8) that a warp holds together, float16 added up in float32.
__device__ __forceinline__ void multiply(float* d, const u32* a, u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  __trap();  // it is asked for on no such GPU
#endif
}

// Such a b of 16 rows of 8 numbers each in shared memory, the first 16 threads each at one.
__device__ __forceinline__ void load_turned(u32* b, const u16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(b[0]), "=r"(b[1]) : "r"((u32)__cvta_generic_to_shared(row)) : "memory");
}

// A counter in global memory: what was written before `arrive` is seen after `seen` tells of it.
__device__ __forceinline__ u32 arrive(u32* counter) {
  u32 before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(before) : "l"(counter) : "memory");
  return before;
}

__device__ __forceinline__ u32 seen(u32* counter) {
  u32 count;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(counter) : "memory");
  return count;
}

__device__ __forceinline__ void again(int& tries) {
  if (++tries > PATIENCE) __trap();  // an error, never a hang
}
#endif
