"""The machine code that steps: read it aloud, byte by byte; a test disassembles it again.

Each line is bytes, the instruction that they are, and why it is there. `{state}`, `{masks}` and
`{call}` are filled in when the code is written to memory. Of the processor's registers, those that
C functions need not keep are used: rax, rcx, rdx, rsi, rdi, r8 to r11.

What the code shares with Python is `State`, at the address `{state}`. What it notes is two streams
of 64-bit words. A header for each instruction that is about to run: its address in bits 0 to 46;
bit 47 if a mask register changed since the header before; bit 48 + i if register i did (the order
of `REGISTERS`). And the values: those of the registers that changed, in that order, then all eight
mask registers if one of them did. An instruction takes 10 to 16 bytes.
"""

import ctypes
from string import Formatter

REGISTERS = (
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp"),
)
ADDRESS = (1 << 47) - 1  # of a header
MASKED, CHANGED = 47, 48  # bits of a header
FULL, TAKEN = 1, 2  # why stepping stopped before the end


class State(ctypes.Structure):
    """What the machine code and Python share."""

    _fields_ = (
        ("turn", ctypes.c_uint64),  # 0x00: calls begun and ended: odd while one is stepped
        ("header", ctypes.c_uint64),  # 0x08: where the next header goes
        ("headers", ctypes.c_uint64),  # 0x10: where their room ends
        ("value", ctypes.c_uint64),  # 0x18: where the next value goes
        ("values", ctypes.c_uint64),  # 0x20: where there is no room for 24 more
        ("stopped", ctypes.c_uint64),  # 0x28: 0, FULL or TAKEN
        ("registers", ctypes.c_uint64 * 16),  # 0x30: as last noted
        ("masks", ctypes.c_uint64 * 8),  # 0xb0: as last noted
        ("none", ctypes.c_uint64 * 8),  # 0xf0: masks that are all 0
        ("native_id", ctypes.c_uint64),  # 0x130: the number of the thread that is stepped
        ("process", ctypes.c_uint64),  # 0x138: and of its process
        ("python", ctypes.c_uint64),  # 0x140: what Python handles signals with in C
    )


# A handler of SIGTRAP: (edi: signal, rsi: siginfo, rdx: context), called after each instruction.
# The context has registers at 0x28, rip at 0xa8, flags at 0xb0, a pointer to the rest at 0xe0.
HANDLER = """
    83 7e 08 02                | cmp dword ptr [rsi + 8], 2           | from the trap flag?
    0f 85 d9 00 00 00          | jne over                             | somebody else's: let it be
    49 b9 {state}              | movabs r9, state                     |
    49 8b 41 08                | mov rax, qword ptr [r9 + 8]          | where the header goes
    4d 8b 41 18                | mov r8, qword ptr [r9 + 0x18]        | where values go
    b9 01 00 00 00             | mov ecx, 1                           | FULL, should it stop now
    49 3b 41 10                | cmp rax, qword ptr [r9 + 0x10]       |
    0f 83 d8 00 00 00          | jae stop                             | no room for a header
    4d 3b 41 20                | cmp r8, qword ptr [r9 + 0x20]        |
    0f 87 ce 00 00 00          | ja stop                              | no room for values
    4c 8b 92 a8 00 00 00       | mov r10, qword ptr [rdx + 0xa8]      | rip: the header
    41 80 3a 0f                | cmp byte ptr [r10], 0xf              | is it 0f 05, syscall,
    75 2c                      | jne note                             |
    41 80 7a 01 05             | cmp byte ptr [r10 + 1], 5            |
    75 25                      | jne note                             |
    ff c1                      | inc ecx                              | (TAKEN, should it stop)
    48 83 ba 90 00 00 00 0e    | cmp qword ptr [rdx + 0x90], 0xe      | rax: rt_sigprocmask? A trap
    0f 84 aa 00 00 00          | je stop                              | that is blocked would kill
    48 83 ba 90 00 00 00 0d    | cmp qword ptr [rdx + 0x90], 0xd      | rt_sigaction,
    75 0b                      | jne note                             |
    48 83 7a 68 05             | cmp qword ptr [rdx + 0x68], 5        | of SIGTRAP?
    0f 84 95 00 00 00          | je stop                              |
note:
    48 8d 72 28                | lea rsi, [rdx + 0x28]                | registers now
    49 8d 79 30                | lea rdi, [r9 + 0x30]                 | registers as last noted
    31 c9                      | xor ecx, ecx                         | for each of 16
register:
    4c 8b 1c ce                | mov r11, qword ptr [rsi + rcx*8]     |
    4c 3b 1c cf                | cmp r11, qword ptr [rdi + rcx*8]     |
    74 13                      | je same                              | what changed
    4c 89 1c cf                | mov qword ptr [rdi + rcx*8], r11     | is remembered
    4d 89 18                   | mov qword ptr [r8], r11              | and noted
    49 83 c0 08                | add r8, 8                            |
    44 8d 59 30                | lea r11d, [rcx + 0x30]               |
    4d 0f ab da                | bts r10, r11                         | as bit 48 + i of the header
same:
    ff c1                      | inc ecx                              |
    83 f9 10                   | cmp ecx, 0x10                        |
    75 dc                      | jne register                         |
    48 8b b2 e0 00 00 00       | mov rsi, qword ptr [rdx + 0xe0]      | vectors and masks, by XSAVE
    f6 86 00 02 00 00 20       | test byte ptr [rsi + 0x200], 0x20    | are there masks?
    48 8d b6 {masks}           | lea rsi, [rsi + masks]               | they are here
    75 07                      | jne some                             |
    49 8d b1 f0 00 00 00       | lea rsi, [r9 + 0xf0]                 | no: all of them are 0
some:
    49 8d b9 b0 00 00 00       | lea rdi, [r9 + 0xb0]                 | masks as last noted
    31 c9                      | xor ecx, ecx                         | for each of 8
mask:
    4c 8b 1c ce                | mov r11, qword ptr [rsi + rcx*8]     |
    4c 3b 1c cf                | cmp r11, qword ptr [rdi + rcx*8]     |
    75 17                      | jne masks                            | one changed
    ff c1                      | inc ecx                              |
    83 f9 08                   | cmp ecx, 8                           |
    75 ef                      | jne mask                             |
keep:
    4c 89 10                   | mov qword ptr [rax], r10             | the header
    48 83 c0 08                | add rax, 8                           |
    49 89 41 08                | mov qword ptr [r9 + 8], rax          | where the next ones go
    4d 89 41 18                | mov qword ptr [r9 + 0x18], r8        |
over:
    c3                         | ret                                  |
masks:
    49 0f ba ea 2f             | bts r10, 0x2f                        | as bit 47 of the header
    31 c9                      | xor ecx, ecx                         | for each of 8
copy:
    4c 8b 1c ce                | mov r11, qword ptr [rsi + rcx*8]     |
    4c 89 1c cf                | mov qword ptr [rdi + rcx*8], r11     | is remembered
    4d 89 18                   | mov qword ptr [r8], r11              | and noted
    49 83 c0 08                | add r8, 8                            |
    ff c1                      | inc ecx                              |
    83 f9 08                   | cmp ecx, 8                           |
    75 ea                      | jne copy                             |
    eb d1                      | jmp keep                             |
stop:
    41 89 49 28                | mov dword ptr [r9 + 0x28], ecx       | why
    0f ba b2 b0 00 00 00 08    | btr dword ptr [rdx + 0xb0], 8        | the trap flag off
    c3                         | ret                                  |
"""

# (rdi: calls, rsi, rdx, rcx: what {call} is called with, r8: what is called with rdx and rcx in its
# place if r9d is not the turn): gives what {call} gives. Calls are four words each, a function and
# what it is called with: those before, 0, those after, 0. It is one call of C for Python, so that
# neither Ctrl-C nor another thread can come between what is changed and what puts it back.
RUN = """
    48 b8 {state}              | movabs rax, state                    |
    44 39 08                   | cmp dword ptr [rax], r9d             | has another call begun since
    74 15                      | je free                              | it was asked?
    4c 89 c7                   | mov rdi, r8                          | yes: what refuses
    48 89 d6                   | mov rsi, rdx                         |
    48 89 ca                   | mov rdx, rcx                         |
    48 b8 {call}               | movabs rax, call                     |
    ff e0                      | jmp rax                              |
free:
    53                         | push rbx                             | registers to be kept
    41 54                      | push r12                             |
    41 55                      | push r13                             |
    41 56                      | push r14                             |
    41 57                      | push r15                             |
    48 89 fb                   | mov rbx, rdi                         | the calls
    49 89 f4                   | mov r12, rsi                         |
    49 89 d5                   | mov r13, rdx                         |
    49 89 ce                   | mov r14, rcx                         |
    49 bf {state}              | movabs r15, state                    |
    e8 3e 00 00 00             | call calls                           | those before
    41 ff 07                   | inc dword ptr [r15]                  | the turn: it begins
    4c 89 e7                   | mov rdi, r12                         |
    4c 89 ee                   | mov rsi, r13                         |
    4c 89 f2                   | mov rdx, r14                         |
    48 b8 {call}               | movabs rax, call                     |
    9c                         | pushfq                               |
    0f ba 2c 24 08             | bts dword ptr [rsp], 8               | the trap flag on,
    9d                         | popfq                                | from the next instruction on
    ff d0                      | call rax                             |
    9c                         | pushfq                               |
    0f ba 34 24 08             | btr dword ptr [rsp], 8               | the trap flag off
    9d                         | popfq                                |
    41 ff 07                   | inc dword ptr [r15]                  | it ends
    49 89 c4                   | mov r12, rax                         |
    e8 0d 00 00 00             | call calls                           | those after
    4c 89 e0                   | mov rax, r12                         | what it gave
    41 5f                      | pop r15                              |
    41 5e                      | pop r14                              |
    41 5d                      | pop r13                              |
    41 5c                      | pop r12                              |
    5b                         | pop rbx                              |
    c3                         | ret                                  |
calls:
    55                         | push rbp                             |
next:
    48 89 dd                   | mov rbp, rbx                         |
    48 83 c3 20                | add rbx, 0x20                        | four words
    48 8b 45 00                | mov rax, qword ptr [rbp]             | the function
    48 85 c0                   | test rax, rax                        |
    74 10                      | je done                              | no more of them
    48 8b 7d 08                | mov rdi, qword ptr [rbp + 8]         |
    48 8b 75 10                | mov rsi, qword ptr [rbp + 0x10]      |
    48 8b 55 18                | mov rdx, qword ptr [rbp + 0x18]      |
    ff d0                      | call rax                             |
    eb e0                      | jmp next                             |
done:
    5d                         | pop rbp                              |
    c3                         | ret                                  |
"""

# A handler of signals that Python handles, while its main thread is stepped: (edi: signal, …). The
# system gives a signal to another thread where that one has a trap waiting, as it mostly has; and
# Python up to 3.12, told in another thread, does not look at it before the next wait for its lock.
FORWARD = """
    49 b9 {state}              | movabs r9, state                     |
    b8 ba 00 00 00             | mov eax, 0xba                        | gettid
    0f 05                      | syscall                              |
    41 3b 81 30 01 00 00       | cmp eax, dword ptr [r9 + 0x130]      | the thread that is stepped?
    75 07                      | jne send                             |
    41 ff a1 40 01 00 00       | jmp qword ptr [r9 + 0x140]           | as ever
send:
    89 fa                      | mov edx, edi                         | the signal
    41 8b b1 30 01 00 00       | mov esi, dword ptr [r9 + 0x130]      | to that thread
    41 8b b9 38 01 00 00       | mov edi, dword ptr [r9 + 0x138]      |
    b8 ea 00 00 00             | mov eax, 0xea                        | tgkill
    0f 05                      | syscall                              |
    c3                         | ret                                  |
"""

# Where XSAVE puts the mask registers: ebx of CPUID's leaf 13, 5.
MASKS = """
    53                         | push rbx                             |
    b8 0d 00 00 00             | mov eax, 0xd                         |
    b9 05 00 00 00             | mov ecx, 5                           |
    0f a2                      | cpuid                                |
    89 d8                      | mov eax, ebx                         |
    5b                         | pop rbx                              |
    c3                         | ret                                  |
"""


def assembled(listing: str, **words: bytes) -> bytes:
    """The bytes of a listing; `words` are what its names in braces stand for."""
    filled = Formatter().vformat(listing, (), {name: word.hex(" ") for name, word in words.items()})
    lines = (line.split("|") for line in filled.splitlines())
    return b"".join(bytes.fromhex(line[0]) for line in lines if len(line) == 3)
