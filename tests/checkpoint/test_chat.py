"""Chat templates: what transformers makes of a message, and the line where one cannot be made."""

import json
import random
import re
import tracemalloc

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


STEPS = [  # each of a few characters, and of a number of some millions or billions
    "'a' * N",
    "[1] * N",
    "N * ('a', 1)",
    "7 ** N",
    "'%Nd' % 3",
    "'%*d' % (N, 3)",
    "'%Nd' | format(3)",
    "'{:>N}'.format(3)",
    "'{:{w}}'.format(3, w=N)",
    "'{:{w[0]}}'.format(3, w=['N'])",
    "'{a:N}'.format_map({'a': 3})",
    "'a'.center(N)",
    "'a'.ljust(N)",
    "'a'.zfill(N)",
    "'\t'.expandtabs(N)",
    "'a' | center(N)",
    "'a' | center(width=N)",
    "'a' | indent(N)",
    "('a' | attr('rjust'))(N)",
    "['a'] | map('center', N) | list",
    "messages | tojson(indent=N)",
    "messages | slice(N) | list | length",
    "['a'] | batch(N, 'x') | list | length",
    "1.5 | round(N)",
    "N.to_bytes(N)",
    "'%Nd'.encode() % 3",
    "['%Nd'] | format(3)",
    "'%(a(b))Nd' % {'a(b)': 3}",
    "'{a[}]:N}'.format(a={'}': 3})",
    "('%(a)f' * 999999) % {'a': 10.0 ** 300}",
]
DOUBLED = [  # what is twice as large as a
    "{% set a = a + a %}",
    "{% set a = a ~ a %}",
    "{% set a = [a, a] %}",
    "{% set a = (a, a) %}",
    "{% set a = {'a': a, 'b': a} %}",
    "{% set a = dict(a=a, b=a) %}",
    "{% set a = '%s%s' % (a, a) %}",
    "{% set a = '%s%s' | format(a, a) %}",
    "{% set a = '{0}{0}'.format(a) %}",
    "{% set a = [a, a] | join %}",
    "{% set a = f(a) %}",
    "{% set a = namespace(x=a, y=a) %}{% set _ = a | string %}",
    "{% set a %}{{ a }}{{ a }}{% endset %}",
    "{% set a = a * 2 %}",
]
PRODUCTS = [  # of two texts, as long as both multiplied
    "a | replace('a', a)",
    "a.replace('a', a)",
    "a.join(a)",
    "a | join(a)",
    "a | map('upper') | join(a)",
    "a | indent(a, true) | indent(a, true)",
    "a | map('replace', 'a', a) | list",
    "a | list | reverse | join(a)",
    "a.translate({97: a})",
    "([1, 2, 3] * 9000) | tojson(separators=(a, a))",
    "a | wordwrap(1, true, a)",
    "('a.bc ' * 20000) | urlize(target=a)",
    "('{0.items}' * 9999).format(cycler(a))",
]


def too_much(template):
    """Has a template refused, and nothing large made until then."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"^the chat template of T fails: it makes more than"):
            ChatTemplate(template, {}, "T").render("hello")
        assert tracemalloc.get_traced_memory()[1] < 1e8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_a_template_that_makes_gigabytes_is_refused(step):
    number = int(10 ** random.Random(step).uniform(6, 12))
    too_much("{{ " + step.replace("N", str(number)) + " }}")


@pytest.mark.parametrize("step", DOUBLED)
def test_so_are_many_steps_that_double_what_they_have(step):
    begin = "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set a = 'ab' %}"
    too_much(begin + 40 * step + "{{ a | length }}")


@pytest.mark.parametrize("step", PRODUCTS)
def test_so_is_a_text_for_each_character_of_another(step):
    too_much("{% set a = 'a' * 20000 %}{{ (" + step + ") | length }}")


def test_what_a_template_prints_is_bounded_as_a_whole():
    row = "{% for i in range(30000) %}{{ a }}{% endfor %}"
    too_much("{% set a = 'a' * 1000 %}" + row)
    too_much("{% set a = 'a' * 1000 %}{% macro f() %}" + row + "{% endmacro %}{{ f() | length }}")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_long_message_is_none_of_these(name):
    message = "é" * 1_000_000
    said = ChatTemplate(TEMPLATES[name], {"bos_token": END, "eos_token": END}, "T").render(message)
    if name != "a namespace":
        assert message.upper() in said.upper()


LINEAR = [  # of a long text c and numbers, what is no larger than all of them
    "messages[0].get('reasoning', c)",
    "c | default(c)",
    "namespace(a=c, b=c).b",
    "namespace(msgs=messages, last=messages[-1]).last.content",
    "dict(role='user', content=c, raw=c).raw",
    "c.startswith(c)",
    "c | truncate(100000)",
    "c | replace('<tool_response>', '[tool_response]')",
    "c.replace('<|begin_of_thought|>', '<|end_of_thought|>')",
    "'<|reserved_special_token_128006|>%s' % c",
    "'%s and %s' % (c, c)",
    "'{} and {}'.format(c, c)",
    "'NNNNNNN {}'.format(1)",
    "(c ~ ' NNNNNNN tokens').format()",
    "'{:,}'.format(NNNNNNN)",
    "NNNNNNN | string | center(20)",
    "NNNNNNN | int + NNNNNNN * 1.5",
    "NNNNNNN | round",
    "c | length ~ ' of ' ~ NNNNNNN",
    "messages | map(attribute='content') | join('\\n\\n')",
    "messages | reverse | map(attribute='content') | join",
    "c.split(' ') | join('  ')",
    "c.split('</think>')[-1].lstrip('\\n')",
    "c | indent(4) | trim | upper",
    "c.center(80)",
]


@pytest.mark.parametrize("step", LINEAR)
def test_a_step_that_repeats_nothing_is_rendered_of_a_million_characters_as_jinja_does(step):
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    draw = random.Random(step)
    words = "<tool_response>", "<|begin_of_thought|>", "é", "1234567", "a\n", "</think>"
    message = " ".join(draw.choices(words, k=125_000))[:1_000_000]
    code = "{% set c = messages[0].content %}{{ " + step + " }}"
    code = code.replace("NNNNNNN", str(draw.randrange(200_000, 10**9)))
    messages = [{"role": "user", "content": message}]
    theirs = ImmutableSandboxedEnvironment().from_string(code).render(messages=messages)
    assert ChatTemplate(code, {}, "T").render(message) == theirs


@pytest.mark.parametrize(
    "template",
    ["{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "{{" + "(" * 5000 + "1" + ")" * 5000],
)
def test_a_template_that_calls_itself_is_nested_too_deep(template):
    with pytest.raises(InputError, match=r"^the chat template of T is nested too deep$"):
        ChatTemplate(template, {}, "T").render("hello")


def test_what_a_template_says_is_wrong_is_bounded():
    with pytest.raises(InputError) as error:
        ChatTemplate("{{ raise_exception('x' * 90000) }}", {}, "T").render("hello")
    assert len(str(error.value)) < 300


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
