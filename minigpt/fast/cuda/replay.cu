// The jobs of a pass, one after another, by all blocks together: a pool of multiprocessors, one
// block on each, as the CPU's pool has threads. A job waits for others only where it needs what they
// wrote. Each job, or some in order, can also be launched alone.

extern "C" __global__ void __launch_bounds__(THREADS, 1)
replay(const Entry* jobs, int first, int count, u32* done, const i64* length) {
  SHARED(uint4, ring);                         // DEPTH pieces of each thread, then scratch
  float* scratch = (float*)(ring + DEPTH * blockDim.x);
  __shared__ i64 words[2 * WORDS];             // of the job under way, and of the next product
  __shared__ float some[LANES];
  const Job& job = *(const Job*)words;
  const Product &here = *(const Product*)words, &next = *(const Product*)(words + WORDS);
  const i64 n = *length;
  const int end = first + count, word = threadIdx.x % WORDS;
  Stream stream = {};
  stream.of = -1;
  u32 met = 0;
  i64 later = 0;                               // a word of what comes after the job under way

  auto look = [&](int number) {                // each of the first threads at one word
    if (threadIdx.x >= 2 * WORDS || number >= end) return;
    i64 from = number;
    if (threadIdx.x >= WORDS) from = jobs[number].origin[2];  // `ahead`, the same at each n
    if (from < end) later = jobs[from].origin[word] + n * jobs[from].slope[word];
  };
  look(first);
  for (int number = first; number < end; number++) {
    if (threadIdx.x < 2 * WORDS) words[threadIdx.x] = later;
    __syncthreads();
    const int ahead = job.ahead < end ? (int)job.ahead : -1;
    while (stream.asked < DEPTH && ask(stream, ring, here, number, next, ahead)) {}
    if (job.kind == ATTENTION) expect_keys(*(const Attention*)words);
    if (job.meets && number > first) {
      met++;
      if (threadIdx.x == 0)
        for (int tries = 0; seen(done) < met * gridDim.x;) again(tries);
      __syncthreads();
    }
    look(number + 1);                          // known by the end of this job
    switch (job.kind) {
      case PRODUCT: product(here, number, next, ahead, stream, ring, scratch, some); break;
      case ATTENTION: attention(*(const Attention*)words, scratch); break;
      case ROWS: rows(*(const Rows*)words); break;
      case NORM: norm(*(const Norm*)words); break;
      case GATHERED: gathered(*(const Gathered*)words); break;
      case POSITION: position(*(const Position*)words); break;
    }
    __syncthreads();
    if (threadIdx.x == 1 && number + 1 < end && later) arrive(done);  // its word of the next: `meets`
  }
  // The last to come leaves the counter as it was found.
  if (met && threadIdx.x == 0 && arrive(done) == (met + 1) * gridDim.x - 1) *done = 0;
}

// What a step needs to be told: which token, and where.
extern "C" __global__ void begin(i64* state, i64 token, i64 position) {
  state[0] = token;
  state[1] = position;
}
