// The kernels as a library: `launch` runs jobs as a GPU would be asked to, `counted` tells and
// forgets how often was multiplied and added, and how many exponentials were taken.
#include <string>
#include <utility>

#include "cpu.h"
#include "kernels.cu"  // all of them, as they are compiled for a GPU

static void call(void** a) {
  replay(*(const Entry**)a[0], *(int*)a[1], *(int*)a[2], *(u32**)a[3], *(const i64**)a[4]);
}

static void run(void (*kernel)(void**), void** given, int blocks, int threads, long shared) {
  arguments = given, body = kernel;
  std::vector<std::thread> all;
  for (int i = 0; i < blocks; i++) all.emplace_back(run_block, i, blocks, threads, (size_t)shared);
  for (auto& thread : all) thread.join();
}

extern "C" void launch(int blocks, int threads, long shared, const Entry* jobs, int first, int count,
                       u32* done, const i64* position) {
  void* given[] = {&jobs, &first, &count, &done, &position};
  run(call, given, blocks, threads, shared);
}

// Kernels by name, of words of 8 bytes each.
template <class... A, size_t... I>
static void spread(void (*kernel)(A...), void** given, std::index_sequence<I...>) {
  kernel(*(A*)given[I]...);
}
template <auto KERNEL> static void entry(void** given) {
  [&]<class... A>(void (*kernel)(A...)) {
    spread(kernel, given, std::index_sequence_for<A...>());
  }(KERNEL);
}
extern "C" void call_by_name(const char* name, void** given, int blocks, int threads) {
  const std::pair<std::string, void (*)(void**)> kernels[] = {
      {"begin", entry<begin>},
      {"norms", entry<norms>},
      {"activations", entry<activations>},
      {"attention_64", entry<attention_64>},
      {"attention_128", entry<attention_128>},
  };
  for (auto& [known, kernel] : kernels)
    if (known == name) run(kernel, given, blocks, threads, 0);
}

extern "C" void counted(u64* counts) {
  counts[0] = all_multiplied.exchange(0), counts[1] = all_exponentials.exchange(0);
}
