"""Hardware: figures against the chips' own clocks and buses, and files that describe more."""

import json
import os
import time
from pathlib import Path

import pytest

from minigpt.commands.gpus import run
from minigpt.errors import InputError
from minigpt.planning.accelerators import Accelerator
from minigpt.planning.hardware import GPUS, _cache, find, memory_here, read, this_cpu

# cores, boost clock in GHz, width of the memory bus in bits, Gbit a second on each of its lines
CHIPS = {
    "rtx-3060-12gb": (3584, 1.777, 192, 15),
    "rtx-3090": (10496, 1.695, 384, 19.5),
    "rtx-4060": (3072, 2.46, 128, 17),
    "rtx-4090": (16384, 2.52, 384, 21),
    "rtx-5090": (21760, 2.407, 512, 28),
    "t4": (2560, 1.59, 256, 10),
    "l4": (7424, 2.04, 192, 12.5),
    "l40s": (18176, 2.52, 384, 18),
    "a100-40gb": (6912, 1.41, 5120, 2.43),
    "a100-80gb": (6912, 1.41, 5120, 3.186),
    "h100": (16896, 1.98, 5120, 5.23),
    "h200": (16896, 1.98, 6144, 6.25),
}
OWN = {"name": "own", "memory": 2**33, "bandwidth": 1e11, "flops": {"float16/float32": 1e13}}


@pytest.mark.parametrize("name", CHIPS)
def test_figures_follow_from_the_chip(name):
    cores, clock, width, rate = CHIPS[name]
    gpu = GPUS[name]
    assert gpu.flops["float32/float32"] == pytest.approx(2e9 * cores * clock, rel=0.01)
    assert gpu.bandwidth == pytest.approx(width * rate * 1e9 / 8, rel=0.01)


@pytest.mark.parametrize("name", [name for name in GPUS if name.startswith("rtx")])
def test_geforce_halves_its_rate_to_accumulate_in_float32(name):
    flops = GPUS[name].flops
    assert flops["float16/float32"] == pytest.approx(flops["float16/float16"] / 2, rel=0.01)
    assert flops["float16/float32"] == pytest.approx(2 * flops["float32/float32"], rel=0.01)


def test_the_articles_gpu():
    gpu = GPUS["rtx-3060-12gb"]
    assert gpu[1:4] == (gpu.flops, 360e9, 11_901 * 2**20)
    assert gpu.rate("float16") == 25.5e12
    assert 101e12 not in gpu.flops.values()


def test_every_figure_has_a_source(capsys):
    run(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    assert told["gpus"].keys() == {*GPUS}
    for one in told["gpus"].values():
        assert one["source"]
        assert one["memory_source"]
        assert min(one["bandwidth"], one["memory"], *one["flops"].values()) > 0
    run()
    assert "NVIDIA, H100 data sheet" in capsys.readouterr().out


@pytest.mark.alone
def test_this_cpu_is_measured_in_a_moment_and_only_if_asked(capsys, monkeypatch):
    start = time.process_time()
    made = this_cpu()
    assert time.process_time() - start < 10
    assert made.rate("float32") > made.bandwidth / 100 > 0
    assert made.measured
    monkeypatch.setattr("minigpt.commands.gpus.this_cpu", lambda: made)
    run(as_json=True, measure_cpu=True)
    assert json.loads(capsys.readouterr().out)["gpus"]["cpu"]["source"].startswith("measured here")


@pytest.mark.alone
def test_the_cpu_is_measured_by_as_many_threads_as_the_process_may_use(monkeypatch):
    """One thread alone reads no more than its share of what all of them read."""
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("no affinity here")
    assert f"{len(os.sched_getaffinity(0))} threads" in this_cpu().source
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert "1 threads" in this_cpu().source


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
@pytest.mark.parametrize(
    ("limit", "counts"),
    [("1073741824", True), ("max", False), ("9223372036854771712", False), (None, False)],
)
def test_a_container_has_no_more_memory_than_its_limit(tmp_path, name, limit, counts):
    whole = memory_here(tmp_path)[0]
    if whole < 2**30:
        pytest.skip("this system does not tell its memory")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if limit is not None:
        (tmp_path / name).write_text(limit + "\n")
    memory, source = memory_here(tmp_path)
    assert memory == (2**30 if counts else whole)
    assert ("container" in source) is counts


SUFFIXES = pytest.mark.parametrize("suffix", ["json", "toml"])


def written(path, values):
    """A file that describes hardware; whole numbers are hexadecimal in TOML, of any length."""
    if path.suffix == ".json":
        path.write_text(json.dumps(values))
        return path
    *plain, (_, rates) = sorted(values.items(), key=lambda item: isinstance(item[1], dict))
    lines = [f"{name} = {toml(value)}" for name, value in plain]
    lines += ["[flops]", *(f"{json.dumps(kind)} = {rate}" for kind, rate in rates.items())]
    path.write_text("\n".join(lines))
    return path


def toml(value):
    return hex(value) if type(value) is int and value >= 0 else json.dumps(value)


@SUFFIXES
def test_a_file_describes_one_more(suffix, tmp_path):
    path = written(tmp_path / f"own.{suffix}", OWN)
    made = find("own", path)
    assert made == find(str(path)) == read(path)
    assert (made.memory, made.bandwidth, made.rate("float16")) == (2**33, 1e11, 1e13)


@SUFFIXES
@pytest.mark.parametrize("name", GPUS)
def test_what_the_command_prints_describes_the_same(suffix, name, tmp_path):
    """A GPU without a link too, whose bandwidth is 0."""
    path = written(tmp_path / f"own.{suffix}", GPUS[name]._asdict())
    assert read(path) == GPUS[name]
    cpu = GPUS[name]._replace(name="CPU", link_bandwidth=0.0, measured=True)
    assert read(written(path, cpu._asdict())) == cpu


def test_one_of_two_descriptions_would_do_nothing(tmp_path):
    one, other = (written(tmp_path / f"{x}.json", OWN | {"name": x}) for x in ("one", "other"))
    for name in (str(one), "t4", "cpu"):
        with pytest.raises(InputError, match=f"^{other} would do nothing beside the GPU {name}:"):
            find(name, other)
    assert find("one", one) == read(one)
    with pytest.raises(InputError, match=r"unknown GPU 'one': .*, other, cpu, or"):
        find("one", other)


@pytest.mark.parametrize("size", ["32K", "8M\n", "1G", "4096", "", "none", None])
def test_a_cache_counts_where_the_system_tells_its_size(size, tmp_path):
    """Two processors share the first cache; of the third the system says nothing else."""
    told = {"32K": 32 * 2**10, "8M\n": 8 * 2**20, "1G": 2**30, "4096": 4096}.get(size, 0)
    for cpu, shared, its in ((0, "0-1", "16K"), (1, "0-1", "16K"), (2, "2", size)):
        for index, content in ((2, "1K"), (3, its)):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            (folder / "shared_cpu_list").write_text(shared)
            if content is not None:
                (folder / "size").write_text(content)
    assert _cache({0, 1, 2, 3}, tmp_path) == 16 * 2**10 + told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"flops": 3}, "flops is 3; it must be rates"),
        (
            {"flops": {"float16/float32": -1}},
            "the rate of 'float16/float32' is -1; it must be a number",
        ),
        ({"link_bandwidth": -1}, "link_bandwidth is -1"),
        ({"link_bandwidth": 1e-300}, "link_bandwidth is 1e-300"),
        ({"link_bandwidth": False}, "link_bandwidth is False"),
        ({"bandwidth": None}, "bandwidth is None"),
        ({"memory": "12GB"}, "memory is '12GB'"),
        ({"nominal_memory": -1}, "nominal_memory is -1"),
        ({"cache": 1.5}, "cache is 1.5"),
        ({"measured": 1}, "measured is 1"),
        ({"name": "h100"}, "name is 'h100'; it must be a name of its own"),
        ({"name": "cpu"}, "name is 'cpu'; it must be a name of its own"),
        ({"name": "all"}, "name is 'all'; it must be a name of its own"),
        ({"name": ""}, "name is ''; it must be a name of 1 to"),
        ({"name": "a\nb"}, r"name is 'a\\nb'; it must be a name of 1 to"),
        ({"name": "x" * 3000}, "name is 'xxx.{90,150}; it must be a name of 1 to"),
        ({"flops": {}}, "flops is {}; it must be rates by type"),
        ({"flops": {"fp16": 1e14}}, "there is no rate of 'fp16'; it must be .*float16/float32"),
        ({"flops": {"float16/fp32": 1e14}}, "there is no rate of 'float16/fp32'; it must be"),
        ({"flops": {"x" * 900: 1e14}}, "there is no rate of 'xxx.{90,150}; it must be"),
        ({"name": 7}, "name is 7"),
        ({"colour": "green"}, "'colour' is no field"),
        ({f"{9 * 'colour'}{n}": "green" for n in range(99)}, "is no field"),
    ],
)
def test_a_file_that_describes_none_is_refused(change, said, tmp_path):
    path = written(tmp_path / "own.json", {**OWN, **change})
    with pytest.raises(InputError, match=f"^{path}: .*{said}[^\n]*$"):
        read(path)


@pytest.mark.parametrize("name", [*Accelerator._fields, "colour"])
def test_a_number_of_5000_digits_is_refused_in_a_line(name, tmp_path):
    path = written(tmp_path / "own.toml", OWN)
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{name} =")]
    lines = lines[: lines.index("[flops]")] if name == "flops" else lines
    path.write_text("\n".join([f"{name} = 0x{5000 * 'f'}", *lines]))
    with pytest.raises(InputError, match=rf"^{path}: .{{,200}}$"):
        read(path)


def test_what_is_not_known_is_refused():
    with pytest.raises(InputError, match=r"unknown GPU 'rtx-1': rtx-3060-12gb, .*b200, cpu"):
        find("rtx-1")
    with pytest.raises(InputError, match="T4 has no peak rate for bfloat16"):
        GPUS["t4"].rate("bfloat16")
    with pytest.raises(InputError, match="cannot be read"):
        find("nowhere.toml")


def test_a_tilde_in_the_name_of_a_file_is_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = written(tmp_path / "own.json", OWN)
    assert find("~/own.json") == find(OWN["name"], Path("~/own.json")) == read(path)
