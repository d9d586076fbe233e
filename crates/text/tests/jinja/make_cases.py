"""Writes cases.json: small templates with what the reference's Jinja2 set-up renders from them.

Run `python make_cases.py` with Jinja2 3.1.6 after changing the list.
"""

import json
from pathlib import Path

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

DATA = {
    "text": "  Hello, World  ",
    "think": "<think>\nwhy\n</think>\n\nso",
    "none": None,
    "yes": True,
    "no": False,
    "int": 42,
    "big": 12345678901234567890,
    "floats": [1.0, 0.1, 1e16, 1e20, 1e-5, -0.0, 123456789.125, 1e22],
    "list": ["a", "it's", 1, 2.5, None, True, ["x"]],
    "map": {"b": 1, "a": {"c": [1, 2]}, "é": "<&'>\"\n\u007f\u2028"},
    "messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}],
    "empty": [],
}

TEMPLATES = [
    # Printing.
    "{{ none }} {{ yes }} {{ no }} {{ int }} {{ big }} {{ undefined_one }}|",
    "{{ list }} {{ map }} {{ empty }} {{ {} }} {{ (1, 'a') }}",
    "{% for f in floats %}{{ f }} {{ f|string }} {{ f|tojson }};{% endfor %}",
    "{{ floats }}",
    "{{ 'n=' ~ int ~ yes ~ none ~ 2.5 }}",
    "{{ 7 / 2 }} {{ 6 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1 + 1.0 }}",
    "{{ 'a' * 3 }} {{ [1] + [2] }} {{ 'a' + 'b' }}",
    "{{ int|string + '!' }} {{ none|string }} {{ list|string|length }}",
    # JSON.
    "{{ map|tojson }}",
    "{{ list|tojson }} {{ empty|tojson }} {{ {}|tojson }} {{ none|tojson }} {{ yes|tojson }}",
    "{{ map|tojson(indent=2) }}",
    "{{ empty|tojson(indent=2) }}{{ [[], {}]|tojson(indent=1) }}",
    "{{ map|tojson(ensure_ascii=true) }} {{ '👍'|tojson(ensure_ascii=true) }}",
    "{{ map|tojson(sort_keys=true, separators=(',', ':')) }}",
    "{{ {1: 'a', none: 2, false: 3, 2.0: 4}|tojson }}",
    "{{ map|tojson|safe }} {{ 'a' in map }} {{ map.a.c[-1]|tojson }}",
    # Text.
    "[{{ text|trim }}][{{ text.strip() }}][{{ text.lstrip() }}][{{ text.rstrip() }}]",
    "{{ think.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}",
    "{{ think.split('</think>')[-1].lstrip('\\n') }} {{ 'a b  c'.split() }} {{ 'a,b,c'.split(',', 1) }}",
    "{{ text.startswith(' ') }} {{ text.endswith('x') }} {{ text.startswith(('x', ' ')) }}",
    "{{ 'Hello' in text }} {{ '' in text }} {{ 'x' not in text }}",
    "{{ text.replace('l', 'L') }} {{ text.upper() }} {{ text|lower }} {{ 'a b'.title() }}",
    "{{ text[2:7] }} {{ text[::-1] }} {{ text[-4:] }} {{ text[3] }}",
    "{{ 'ab'.removeprefix('a') }} {{ 'ab'.removesuffix('b') }} {{ 'ab'.removeprefix('x') }}",
    "{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'a'.partition('=') }}",
    "{{ 'a=b=c'.rsplit('=', 1) }} {{ 'a=b'.rsplit('=') }} {{ ' a b '.rsplit() }} {{ ' a  b c '.rsplit(none, 1) }}",
    "{{ 'x'.join(['1', '2']) }} {{ 'abc'.find('c') }}",
    "{{ 'x\\ny'.splitlines() }} {{ 'a-b'.count('-') }} {{ 'abc'.index('c') }}",
    "{{ '%s-%d' % ('a', 5) }}",
    "{{ '{} {}'.format(1, 'b') }} {{ '%.2f'|format(1.5) }} {{ '%s-%d'|format('a', 5) }}",
    "{{ 'line\\nline'|indent(2) }}",
    # Lists and mappings.
    "{{ messages[-1].content }} {{ messages[0]['role'] }} {{ messages|length }} {{ messages[::-1][0].role }}",
    "{{ messages[1:]|length }} {{ messages[1:][0].content }} {{ (messages|last).role }} {{ (messages|first).role }}",
    "{% for k, v in map.items() %}{{ k }},{% endfor %}{% for k, v in map|items %}{{ k }},{% endfor %}",
    "{% for k in map %}{{ k }}{% endfor %} {{ map.keys()|list }} {{ map.values()|list|length }}",
    "{{ map.get('b') }} {{ map.get('x') }} {{ map.get('x', 'd') }} {{ map['b'] }} {{ map.x is defined }}",
    "{{ messages|map(attribute='role')|join(', ') }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }}",
    "{{ messages|rejectattr('role', 'equalto', 'user')|map(attribute='content')|list }}",
    "{{ [3, 1, 2]|sort }} {{ [1, 1, 2]|unique|list }} {{ [1, 2]|sum }} {{ [1, 2, 3]|max }} {{ list|join('-') }}",
    "{{ map|dictsort }} {{ [1, 2, 3, 4]|batch(2)|list }} {{ range(3)|list }} {{ range(1, 6, 2)|list }}",
    "{{ none|default('d') }} {{ missing|default('d') }} {{ ''|default('d', true) }}",
    "{{ dict(a=1) }} {{ dict(map, z=2).z }}",
    # Tests.
    "{% for v in [text, list, map, none, int, 2.5, yes, missing] %}{{ v is string }}{{ v is mapping }}"
    "{{ v is iterable }}{{ v is sequence }}{{ v is number }}{{ v is integer }}{{ v is float }}"
    "{{ v is boolean }}{{ v is none }}{{ v is defined }}{{ v is true }}{{ v is false }}\n{% endfor %}",
    "{{ 3 is odd }} {{ 4 is divisibleby 2 }} {{ 1 is sameas 1 }} {{ 'a' is in ['a'] }} {{ 1 == 1.0 }} {{ yes == 1 }}",
    "{{ none == missing }} {{ not missing }} {{ 'x' if missing else 'y' }} {{ 'x' if missing }}|",
    "{{ 1 < 2 < 3 }} {{ yes and 'a' or 'b' }} {{ not none }} {{ 'b' > 'a' }}",
    # Control.
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}"
    "{{ loop.revindex }}{{ (loop.previtem or {}).role }}{{ (loop.nextitem or {}).role }};{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{% else %}none{% endfor %}"
    "{% for m in empty %}x{% else %}none{% endfor %}",
    "{% set ns = namespace(n=0, t='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}{% if yes %}{% set x = 3 %}{% endif %}{{ x }}",
    "{% macro hello(name, greeting='Hi') %}{{ greeting }} {{ name }}{% endmacro %}{{ hello('A') }} {{ hello(name='B', greeting='Yo') }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{% set y = m('z') ~ '!' %}{{ y|upper }} {{ m(' a ')|trim }}",
    "{% set block %}in {{ int }}{% endset %}[{{ block }}]{% set a, b = 1, 2 %}{{ b }}",
    "{% filter upper %}abc{% endfilter %}{% with q = 1 %}{{ q }}{% endwith %}{# comment #}{% raw %}{{ x }}{% endraw %}",
    # White space.
    "a\n  {% if yes %}\n  b\n  {% endif %}\n  c\n",
    "a\n  {%- if yes %}\n  b\n  {%- endif -%}\n  c\n\n",
    "  {{- 'x' -}}  \n  {% generation %}g{% endgeneration %}\n {%- generation -%} h {%- endgeneration -%} i",
    "{% if yes +%}\nb{% endif %}\n  {%+ if yes %}c{% endif %}\nend\n",
    # Mistakes.
    "{{ raise_exception('no: ' ~ int) }}",
    "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}\n{% for i in [1] %}{{ m() }}{% endfor %}",
    "{{ missing.x }}",
    "{{ none + 'x' }}",
    "{{ 'x' + 1 }}",
    "{{ missing() }}",
    "{{ 'x' in none }}",
    "{{ int|items|list }}",
    "{{ missing|tojson }}",
    "{{ empty[0].role }}",
    "{% for x in none %}{% endfor %}",
    "{{ list|nothing }}",
    "{{ 'abc'.index('x') }}",
    "{{ 'abc'.nothing() }}",
]


class Generation(Extension):
    """The reference's tag around the assistant's text, which prints nothing itself."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller):
        return caller()


def environment() -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def main() -> None:
    env = environment()
    cases = []
    for template in TEMPLATES:
        case = {"template": template}
        try:
            case["want"] = env.from_string(template).render(**DATA)
        except Exception as error:  # whatever goes wrong in the reference must go wrong here
            case["error"] = f"{type(error).__name__}: {error}"
        cases.append(case)
    path = Path(__file__).with_name("cases.json")
    text = json.dumps({"data": DATA, "cases": cases}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
