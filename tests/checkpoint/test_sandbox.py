"""What a chat template may make: a few characters of one ask for gigabytes, and are refused."""

import random
import tracemalloc

import pytest

from minigpt import InputError
from minigpt.checkpoint.chat import ChatTemplate

pytest.importorskip("jinja2", reason="Jinja is not installed")

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
