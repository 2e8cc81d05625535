// What `ceilings.py` launches: nothing but the cost of a launch, of a barrier, of reading.

typedef unsigned int u32;

extern "C" __global__ void nothing() {}

// 16 bytes a thread and step. The sum is never what it is compared with, but the compiler cannot know.
extern "C" __global__ void read_all(const float4* x, long long count, float* out) {
  float sum = 0;
  const long long stride = (long long)gridDim.x * blockDim.x;
#pragma unroll 8
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
    const float4 part = x[i];
    sum += part.x + part.y + part.z + part.w;
  }
  if (sum == 1.25e30f) *out = sum;
}

// Blocks that are all on the device at once meet `times` times; one that waits in vain is an error.
extern "C" __global__ void barriers(u32* done, int times) {
  for (int met = 1; met <= times; met++) {
    __syncthreads();
    if (threadIdx.x == 0) {
      u32 seen = 0;
      asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(done) : "memory");
      for (int tries = 0; seen < met * gridDim.x;) {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(done) : "memory");
        if (++tries > 1 << 26) __trap();
      }
    }
    __syncthreads();
  }
}
