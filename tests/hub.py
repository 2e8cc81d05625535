"""Models of the hub: their config.json as published, and the figures that others give for them.

A preset's file, or `models/hub/NAME.json`, is the published one, keys sorted and maps to remote
code left out. Numbers of parameters are those of the safetensors header, which the hub shows beside
a model, unless a comment says otherwise. The bytes held are what the sizes in the file give by
hand, see `held` in `models/test_hub.py`.
"""

import json
from pathlib import Path
from typing import NamedTuple

import minigpt

# Config.json as published: those of the presets, and those that have no name here.
FOLDERS = (Path(minigpt.__file__).parent, "models/presets"), (Path(__file__).parent, "models/hub")
FILES = {path.stem: path for root, folder in FOLDERS for path in (root / folder).glob("*.json")}
TOKENS = 32_768


class Published(NamedTuple):
    """What is said of a model.

    Attributes:
        parameters: of the decoder, a tied head once.
        held: bytes of keys and values in 16 bits of `TOKENS` tokens, or of its longest context.
        total: what is published; the parameters if None, or in billions or millions, rounded.
        beside: numbers in that total that are no parameters of the decoder.
        active: parameters that a token meets, as its maker says it.
    """

    parameters: int
    held: int
    total: int | str | None = None
    beside: int = 0
    active: str | None = None


SIGLIP = 416_866_032  # of Gemma 3: 27 layers of 1152, 4096 patches of 14 x 14
CLIP = 303_507_456  # of LLaVA 1.5: 24 layers of 1024, 577 patches of 14 x 14
SCALES = 3 * 2_880 * 2_880 // 32  # of an expert of gpt-oss: one for 32 numbers of 4 bits
COUNTED = {
    "cerebras-gpt-111m": Published(111_050_496, 62_914_560, "111M"),
    "codeparrot": Published(1_529_628_800, 314_572_800, "1.5B"),
    "command-r7b": Published(8_028_033_024, 1_476_395_008, "8.03B"),
    # R1 is V3, trained further; the header is that of MAI-DS-R1, which has neither scales of 8 bits
    # nor the layer that predicts a second token: V3's says 684,531,386,000 with both
    "deepseek-r1": Published(671_026_419_200, 2_302_672_896, active="37B"),
    "deepseek-v2": Published(235_741_434_880, 2_264_924_160, active="21B"),
    "deepseek-v2-lite": Published(15_706_484_224, 1_019_215_872, active="2.4B"),
    "deepseek-v3": Published(671_026_419_200, 2_302_672_896, active="37B"),
    # Falcon's files hold the tied head a second time, Qwen3-0.6B's too
    "falcon-40b": Published(41_303_293_952, 251_658_240, 41_835_970_560, 65_024 * 8_192),
    "falcon-7b": Published(6_921_720_704, 16_777_216, 7_217_189_760, 65_024 * 4_544),
    "gemma-2-27b": Published(27_227_128_320, 2_315_255_808),
    "gemma-2-2b": Published(2_614_341_888, 654_311_424),
    "gemma-2-9b": Published(9_241_705_984, 2_113_929_216),
    "gemma-3-1b": Published(999_885_952, 145_752_064),
    # beside the text of Gemma 3: the vision tower, a norm and a matrix from 1152 to its width
    "gemma-3-27b": Published(
        27_009_346_304, 3_120_562_176, 27_432_406_640, SIGLIP + 1_152 * (5_376 + 1)
    ),
    "gemma-3-4b": Published(
        3_880_263_168, 792_723_456, 4_300_079_472, SIGLIP + 1_152 * (2_560 + 1)
    ),
    "glm-4-9b-0414": Published(9_400_279_040, 1_342_177_280),
    "gpt-oss-120b": Published(
        116_829_156_672, 1_212_678_144, 120_412_337_472, 36 * 128 * SCALES, active="5.1B"
    ),
    "gpt-oss-20b": Published(
        20_914_757_184, 808_452_096, 21_511_953_984, 24 * 32 * SCALES, active="3.6B"
    ),
    "granite-3.1-8b": Published(8_170_848_256, 5_368_709_120),
    "kimi-k2": Published(1_026_408_232_448, 2_302_672_896, active="32B"),  # less its scales
    # Llama 2's files hold the frequencies of each layer's rotary positions
    "llama-2-70b": Published(68_976_648_192, 1_342_177_280, 68_976_653_312, 80 * 64),
    "llama-2-7b": Published(6_738_415_616, 2_147_483_648, 6_738_417_664, 32 * 64),
    "llama-3-8b": Published(8_030_261_248, 1_073_741_824),
    "llama-3.1-405b": Published(405_853_388_800, 16_911_433_728),
    "llama-3.1-70b": Published(70_553_706_496, 10_737_418_240),
    "llama-3.1-8b": Published(8_030_261_248, 4_294_967_296),
    "llama-3.2-1b": Published(1_235_814_400, 1_073_741_824),
    "llama-3.2-3b": Published(3_212_749_824, 3_758_096_384),
    "llama-3.3-70b": Published(70_553_706_496, 10_737_418_240),
    # beside the text of LLaVA: the vision tower, and two matrices with biases from 1024 to 4096
    "llava-1.5-7b": Published(
        6_738_939_904, 2_147_483_648, 7_063_427_072, CLIP + 4_096 * (1_024 + 1 + 4_096 + 1)
    ),
    "mistral-7b-instruct-v0.3": Published(7_248_023_552, 4_294_967_296),
    "mistral-7b-v0.1": Published(7_241_732_096, 536_870_912),
    "mistral-nemo-12b": Published(12_247_782_400, 5_368_709_120),
    "mixtral-8x22b": Published(140_620_634_112, 7_516_192_768, active="39B"),
    "mixtral-8x7b": Published(46_702_792_704, 4_294_967_296, active="12.9B"),
    "olmo-2-7b": Published(7_298_617_344, 2_147_483_648),
    "olmo-3-7b": Published(7_298_011_136, 5_905_580_032),
    "olmoe-1b-7b": Published(6_919_161_856, 536_870_912, active="1.3B"),
    "opt-125m": Published(125_239_296, 75_497_472, "125M"),
    "opt-6.7b": Published(6_658_473_984, 1_073_741_824, "6.7B"),
    "phi-3-medium-4k": Published(13_960_238_080, 419_225_600),
    "phi-3-mini-4k": Published(3_821_079_552, 804_913_152),
    "phi-4": Published(14_659_507_200, 3_355_443_200),
    "pythia-6.9b": Published(6_857_302_016, 1_073_741_824),  # its card
    "pythia-70m": Published(70_426_624, 25_165_824),  # its card
    "qwen2.5-0.5b": Published(494_032_768, 402_653_184),
    "qwen2.5-72b": Published(72_706_203_648, 10_737_418_240),
    "qwen2.5-7b": Published(7_615_616_512, 1_879_048_192),
    "qwen3-0.6b": Published(596_049_920, 3_758_096_384, 751_632_384, 151_936 * 1_024),
    "qwen3-235b-a22b": Published(235_093_634_560, 6_308_233_216, active="22B"),
    "qwen3-30b-a3b": Published(30_532_122_624, 3_221_225_472, active="3.3B"),
    "qwen3-32b": Published(32_762_123_264, 8_589_934_592),
    "qwen3-8b": Published(8_190_735_360, 4_831_838_208),
    "qwen3-next-80b-a3b": Published(79_674_391_296, 805_306_368, "80B", active="3B"),
    "smollm2-1.7b": Published(1_711_376_384, 1_610_612_736),
    "smollm2-135m": Published(134_515_008, 188_743_680),
    "smollm3-3b": Published(3_075_098_624, 2_415_919_104),
    "stablelm-2-1.6b": Published(1_644_515_328, 805_306_368),
    "starcoder2-3b": Published(3_030_371_328, 125_829_120, "3.03B"),
    "starcoder2-7b": Published(7_173_923_840, 268_435_456, "7.17B"),
    "tinyllama-1.1b": Published(1_100_048_384, 46_137_344),
}
REFUSED = {  # what the one line must name
    "mamba-130m": "state-space mixer",
    "whisper-tiny": "an encoder",
}
WITHOUT_EMBEDDING = {"gpt_oss", "deepseek_v2", "deepseek_v3", "kimi_k2"}  # in "active"


def file(name):
    """A config.json."""
    return json.loads(FILES[name].read_text())


def values(name):
    """Those of a config.json, or of its text part where it has one."""
    found = file(name)
    return found.get("text_config", found)
