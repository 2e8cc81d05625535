"""LLVM at hand: functions built with llvmlite, compiled once, kept for the next start."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from minigpt.fast.kernels.types import constant, f32, i32, i64, pointer, vector, void, whole
from minigpt.notes import note
from minigpt.storage.kept import KERNELS
from minigpt.storage.private import PrivateFolder, unusable


class Builder(ir.IRBuilder):  # type: ignore[misc]
    """llvmlite's builder with loops, indexing and intrinsics."""

    def at(self, base: Any, index: Any, element: Any) -> Any:
        """The address of `base[index]`."""
        return self.gep(base, [whole(index)], source_etype=element)

    def read(self, base: Any, index: Any, element: Any, lanes: int = 0) -> Any:
        """`base[index]`, or the vector of `lanes` elements that begins there."""
        typ = vector(element, lanes) if lanes else element
        return self.load(self.at(base, index, element), typ=typ, align=1)

    def write(self, value: Any, base: Any, index: Any, element: Any) -> None:
        self.store(value, self.at(base, index, element), align=1)

    def scratch(self, element: Any, number: Any) -> Any:
        """The address of so many elements on the stack, until the function ends.

        A line of the cache begins there: vectors that lie in two of them take twice as long.
        """
        made = self.alloca(element, size=number)
        made.align = 64
        made.type = pointer  # llvmlite still has pointers that know what they point to
        return made

    def intrinsic(self, name: str, result: Any, *values: Any) -> Any:
        """A call of an intrinsic, or of a C function, by its whole name."""
        declared = self.module.globals.get(name)
        if declared is None:
            kind = ir.FunctionType(result, [value.type for value in values])
            declared = ir.Function(self.module, kind, name)
        return self.call(declared, values)

    def elementwise(self, name: str, *values: Any) -> Any:
        """An elementwise intrinsic of floats or vectors of them: fma, maxnum, rint, sqrt."""
        typ = values[0].type
        suffix = f"v{typ.count}f32" if isinstance(typ, ir.VectorType) else "f32"
        return self.intrinsic(f"llvm.{name}.{suffix}", typ, *values)

    def prefetch(self, address: Any) -> None:
        """Asks for a line of memory, into the second cache: the first has other things."""
        how = (constant(n, i32) for n in (0, 2, 1))  # to read, how near, of data
        self.intrinsic("llvm.prefetch.p0", void, address, *how)

    def total(self, lanes: Any) -> Any:
        """The sum of the lanes of a vector."""
        name = f"llvm.vector.reduce.fadd.v{lanes.type.count}f32"
        found = self.intrinsic(name, f32, constant(0.0, f32), lanes)
        found.fastmath.add("reassoc")
        return found

    def totals(self, four: Sequence[Any]) -> Any:
        """The sums of the lanes of four vectors, as a vector of four."""
        lanes = four[0].type.count

        def neighbours(a: Any, c: Any) -> Any:
            """Sums of two lanes each; in every four, those of `a` come before those of `c`."""
            first = [n + k for n in range(0, lanes, 4) for k in (0, 2, lanes, lanes + 2)]
            return self.fadd(self.chosen(a, c, first), self.chosen(a, c, [k + 1 for k in first]))

        a, b, c, d = four
        found = neighbours(neighbours(a, b), neighbours(c, d))  # of each four lanes
        while (lanes := found.type.count // 2) >= 4:
            halves = range(lanes), range(lanes, 2 * lanes)
            found = self.fadd(*(self.chosen(found, found, half) for half in halves))
        return found

    def chosen(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        """A vector of some lanes of two, counted through both."""
        return self.shuffle_vector(a, b, ir.Constant(vector(i32, len(lanes)), list(lanes)))

    def largest(self, lanes: Any) -> Any:
        """The largest lane of a vector."""
        return self.intrinsic(f"llvm.vector.reduce.fmax.v{lanes.type.count}f32", f32, lanes)

    def spread(self, value: Any, lanes: int) -> Any:
        """A vector with `value` in every lane."""
        typ = vector(value.type, lanes)
        one = self.insert_element(ir.Constant(typ, ir.Undefined), value, constant(0, i32))
        return self.shuffle_vector(one, one, ir.Constant(vector(i32, lanes), [0] * lanes))

    def least(self, a: Any, b: Any) -> Any:
        return self.select(self.icmp_signed("<", a, b), a, b)

    @contextmanager
    def loop(
        self, start: Any, stop: Any, step: Any, *carried: Any
    ) -> Iterator[tuple[Any, list[Any], list[Any]]]:
        """`for i in range(start, stop, step)`.

        Yields i, the carried values, which after the loop are what they became, and a list to put
        into what they become.
        """
        start, stop, step = (whole(number) for number in (start, stop, step))
        before = self.block
        head, body, after = (self.append_basic_block(name) for name in ("head", "body", "after"))
        self.branch(head)
        self.position_at_end(head)
        i = self.phi(i64)
        i.add_incoming(start, before)
        values = []
        for value in carried:
            values.append(self.phi(value.type))
            values[-1].add_incoming(value, before)
        self.cbranch(self.icmp_signed("<", i, stop), body, after)
        self.position_at_end(body)
        become: list[Any] = []
        yield i, values, become
        i.add_incoming(self.add(i, step), self.block)
        for phi, value in zip(values, become, strict=True):
            phi.add_incoming(value, self.block)
        self.branch(head)
        self.position_at_end(after)


@contextmanager
def function(module: ir.Module, name: str, *parameters: Any) -> Iterator[tuple[Builder, Any]]:
    """A function under construction, which gives nothing: yields its builder and its parameters."""
    made = ir.Function(module, ir.FunctionType(void, parameters), name)
    b = Builder(made.append_basic_block("entry"))
    yield b, made.args
    b.ret_void()


_APART = """
import sys
from importlib import import_module
from minigpt.fast.kernels.llvm import Target
module, build, cpu, *features = sys.argv[1:]
target = Target(features)
target.cpu = cpu
sys.stdout.buffer.write(target.compile(getattr(import_module(module), build)))
"""


class Target:
    """A processor to compile for.

    Args:
        features: by LLVM's names ("avx512f"); those of this machine if not given.
        triple: another machine's kind, this one's if not given.
    """

    def __init__(self, features: Sequence[str] | None = None, triple: str = "") -> None:
        if triple:
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
        else:  # less to load
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
        here = llvm.get_host_cpu_features()
        self.features = {f for f in here if here[f]} if features is None else set(features)
        self.cpu = llvm.get_host_cpu_name() if features is None else ""
        self.triple = triple or llvm.get_process_triple()
        self._jit = not triple

    def machine(self) -> Any:
        """What compiles; an engine that runs code keeps one for itself."""
        features = ",".join(f"+{feature}" for feature in sorted(self.features))
        kind = llvm.Target.from_triple(self.triple)
        return kind.create_target_machine(self.cpu, features, opt=3, jit=self._jit)

    @property
    def fits(self) -> bool:
        """Whether kernels need nothing that the processor lacks: fused products, float16."""
        return not self.triple.startswith("x86_64") or {"fma", "f16c"} <= self.features

    @property
    def lanes(self) -> int:
        """Numbers in a vector: a register of AVX-512, of AVX2, two of NEON."""
        return 16 if "avx512f" in self.features else 8

    def compile(self, build: Callable[[ir.Module, "Target"], None]) -> bytes:
        """The machine code of what `build` puts into a module."""
        module = ir.Module()
        module.triple = self.triple
        build(module, self)
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        machine = self.machine()
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(parsed, passes)
        return machine.emit_object(parsed)

    def _compile_apart(self, build: Callable[[ir.Module, "Target"], None]) -> bytes:
        """`compile` in a process of its own, nothing if that fails: LLVM's memory ends with it."""
        what = build.__module__, build.__qualname__, self.cpu, *sorted(self.features)
        path = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        command = [sys.executable, "-P", "-c", _APART, *what]  # -P: nothing from where it starts
        try:
            found = subprocess.run(command, capture_output=True, env=os.environ | path, check=False)
        except OSError:
            return b""
        return b"" if found.returncode else found.stdout

    def load(
        self,
        build: Callable[[ir.Module, "Target"], None],
        sources: Sequence[Path],
        apart: bool = False,
    ) -> "Code":
        """Compiled code at hand, from the user's cache if all `sources` are the same.

        What is run was sealed by this user, see `PrivateFolder`; anything else is compiled anew.

        Args:
            apart: compile a `build` of a module's in another process.
        """
        known = (file.read_text(encoding="utf-8") for file in sources)
        seed = [llvmlite.__version__, self.triple, self.cpu, *sorted(self.features), *known]
        name = f"{hashlib.sha256(chr(0).join(seed).encode()).hexdigest()[:32]}.o"
        compiled = None
        try:
            with PrivateFolder(KERNELS) as folder:
                compiled = folder.read(name)
                folder.used(name)
                if compiled is None:
                    compiled = (apart and self._compile_apart(build)) or self.compile(build)
                    folder.write(name, compiled)
        except OSError as error:
            note(f"every start compiles its kernels: {unusable(error)}")
        return Code(compiled or self.compile(build), self)


class Code(dict[str, int]):
    """Compiled code in memory; `code["name"]` is the address of a function."""

    def __init__(self, compiled: bytes, target: Target) -> None:
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target.machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(compiled))
        self._engine.finalize_object()

    def __missing__(self, name: str) -> int:
        found = self[name] = self._engine.get_function_address(name)
        return found
