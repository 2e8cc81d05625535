"""Chat templates: what transformers makes of a message, and the line where one cannot be made."""

import json
import re

import pytest
from checkpoints import checkpoint, make_tokenizer, minigpt
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import InputError, generate, load
from minigpt.checkpoint.chat import ChatTemplate
from minigpt.inference.generate import encode

pytest.importorskip("jinja2", reason="Jinja is not installed")

END = "<|endoftext|>"
SAID = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}

# As the families write theirs.
TEMPLATES = {
    "ChatML": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "Llama 2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% else %}{% set loop_messages = messages %}{% endif %}\n{% for message in loop_messages %}\n"
    "    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
    "        {{ raise_exception('Conversation roles must alternate') }}\n    {% endif %}\n"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}\n{% endfor %}",
    "Llama 3": "{{- bos_token }}\n{%- if not date_string is defined %}\n"
    "    {%- set date_string = strftime_now('%d %b') if false else '26 Jul 2024' %}\n{%- endif %}"
    "{{ date_string }}\n{%- for message in messages %}\n    {{- message | tojson }}\n{%- endfor %}",
    "a year": "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "tools": "{% if tools %}tools{% else %}none{% endif %}{{ documents is none }}"
    "{{ messages[-1]['content'] | tojson(indent=2) }}{{ [1, 'é'] | tojson }}",
    "loops": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
    "{% generation %}{{ m['content'] }}{% endgeneration %}{{ eos_token }}{% endfor %}",
    "a namespace": "{% set ns = namespace(found=false) %}{% for m in messages %}"
    "{% set ns.found = true %}{% endfor %}\n    {% if ns.found %}\n  {{ dict(a=1).a }}{% endif %}",
}
MESSAGES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("chat") / "m")


def says(folder, template, **more):
    said = SAID | {"chat_template": template} | more
    (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tokenizer():
    reason = "transformers, a witness, is not installed"
    transformers = pytest.importorskip("transformers", minversion="5", reason=reason)
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=make_tokenizer(260, None))
    made.bos_token = made.eos_token = END
    return made


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=25)
@given(message=MESSAGES)
def test_a_message_becomes_what_transformers_makes_of_it(tokenizer, name, message):
    special = {"bos_token": END, "eos_token": END}
    theirs = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}],
        chat_template=TEMPLATES[name],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert ChatTemplate(TEMPLATES[name], special, "").render(message) == theirs


@pytest.mark.parametrize("name", ["ChatML", "Llama 2"])
def test_the_tokens_are_those_of_the_text_alone(folder, tokenizer, name):
    lm = load(says(folder, TEMPLATES[name], add_bos_token=True))
    messages = [{"role": "user", "content": "ab"}]
    theirs = tokenizer.apply_chat_template(
        messages, chat_template=TEMPLATES[name], add_generation_prompt=True
    )
    assert encode(lm, ["ab"], chat=True).tolist() == [theirs["input_ids"]]
    assert encode(lm, ["ab"]).tolist() == [lm.tokenizer.encode("ab").ids]


def test_a_begin_that_the_tokenizer_adds_too_comes_once(tmp_path):
    from tokenizers import processors

    folder = checkpoint(tmp_path / "m")
    made = make_tokenizer(260, None)
    made.post_processor = processors.TemplateProcessing(f"{END} $A", special_tokens=[(END, 259)])
    made.save(str(folder / "tokenizer.json"))
    lm = load(says(folder, "{{ bos_token }}{{ messages[0].content }}"))
    assert encode(lm, ["a"], chat=True).tolist() == encode(lm, ["a"]).tolist()
    assert encode(lm, ["a"]).tolist()[0][:1] == [259]


def test_a_template_of_its_own_file_rules(tmp_path):
    folder = says(checkpoint(tmp_path / "m"), "old")
    (folder / "chat_template.jinja").write_text("new {{ messages[0].content }}", encoding="utf-8")
    assert load(folder).chat.render("é") == "new é"


def test_of_several_templates_the_default_is_taken(tmp_path):
    several = [{"name": name, "template": name} for name in ("tool_use", "default")]
    folder = says(checkpoint(tmp_path / "m"), several)
    assert load(folder).chat.render("") == "default"
    assert load(says(folder, several[:1])).chat is None


@pytest.mark.parametrize(
    "template",
    [
        "{% if %}",
        "{{ raise_exception('no such roles') }}",
        "{{ messages[0].content.nothing.at_all }}",
        "{{ 1 / 0 }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ [].__init__.__globals__ }}",
        "{% include 'x' %}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ lipsum(n=10 ** 9) }}",
        "{{ messages | nothing }}",
    ],
)
def test_a_template_that_fails_is_one_line_that_names_it(folder, template):
    lm = load(says(folder, template))
    with pytest.raises(InputError) as error:
        generate(lm, "a", chat=True)
    assert str(error.value).startswith(f"the chat template of {folder / 'tokenizer_config.json'} ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_long_message_is_rendered_whole(name):
    message = "é" * 1_000_000
    said = ChatTemplate(TEMPLATES[name], {"bos_token": END, "eos_token": END}, "T").render(message)
    if name != "a namespace":
        assert message.upper() in said.upper()


def test_without_a_template_there_is_no_chat(tmp_path):
    lm = load(checkpoint(tmp_path / "m"))
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'm'} has no chat template")):
        generate(lm, "a", chat=True)


def test_the_command_answers_a_message_and_shows_the_answer_alone(folder, tmp_path):
    says(folder, "<{{ messages[0].content }}>")
    options = "--model", str(folder), "--temperature", "0", "--max-new-tokens", "5", "--ignore-eos"
    chat = minigpt("generate", "ab", *options, "--chat", "--json", cwd=tmp_path)
    bare = minigpt("generate", "<ab>", *options, "--json", cwd=tmp_path)
    answer, text = (json.loads(result.stdout) for result in (chat, bare))
    assert answer["tokens"] == text["tokens"]
    assert ["<ab>" + answer["texts"][0]] == text["texts"]
    shown = minigpt("generate", "ab", *options, "--chat", "--quiet", cwd=tmp_path)
    assert shown.stdout.decode() == answer["texts"][0] + "\n"
