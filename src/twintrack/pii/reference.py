"""Where a word such as password names something and leads to no value: a placeholder, an attribute, a label, a hash."""

import re

import re2

from twintrack.pii.value import DATA

_LOOK_BYTES, _OBJECT_BYTES = 40, 240
_QUOTES = (b'"', b"'")
# What any of the forms below needs; a call of `re` costs a third of one of RE2.
_MAY_REFER = re.compile(rb"""[\w.-]{0,32}[ \t]{0,2}(?:[\])}>%"'!<&|~{]|=[=~]|[:=][ \t]{0,2}[{\n])""")
# `${DB_PASSWORD}`, `{{ token }}`, `<your-password>`, `%PASSWORD%`, `#{secret}`, `[password]`
_OPENS = re2.compile(r"(?:[$#@]?\{{1,2}[^\n{}=:\"']{0,32}|<[^\n<>=\"'/ ]{0,32}|%[\w-]{0,32}|\[[\w -]{0,32})$")
_CLOSES = re2.compile(r"^[\w.-]{0,32}(?:[ \t]?\}|[ \w-]{0,16}>|%|\](?:[^=:\w ]|$))")
_ELEMENT = re2.compile(r"^[\w.-]{0,32}>[^<>\n]{1,64}</")  # `<password>hunter22</password>`
# `$PASSWORD`, where nothing is given to it
_VARIABLE = re2.compile(r"\$[\w]*$")
_IS_GIVEN = re2.compile(r"^[\w]*(?:\[[^\]\n]{0,32}\])?[ \t]{0,4}(?:[.+|?]{0,2}=[^=]|:=|:[ ]|=>|->[ ]?['\"])")
# `type="password"`, `"name": "pwd"`: the word is a value itself
_NAMED_AS = re2.compile(r"""[=:][ \t]?["']$""")
_ENDS_QUOTE = re2.compile(r"""^["'](?:[ \t]{0,2}[^:= \t]|$)""")
_VALUE_OF = re2.compile(
    r"""(?i)^["'][^<>{}\n]{0,100}?[\s,"'](?:value|val|wert|valeur|valor|valore|content|text|data|secret)["']?[ \t]?[:=]"""
)
_NOTHING = re2.compile(r"""^[ \t]*(?:""|'')""")
# `<string name="api_key">...</string>`
_NAMED_ELEMENT, _CONTENT = re2.compile(r"""(?:name|key)=["']$"""), re2.compile(r"""^["']>[^\s<>]{6,110}</""")
# `variable "db_password" { default = "..." }`, `"password": {"type": "string", "value": "..."}`, and the same in YAML
_GIVEN_AS = r"(?:default(?:[ _]?value)?|value|plaintext|secret_?string)[\"']?[ \t]?[:=][ \t]*[\"']?[^\s\"'`,;{}\[\]]"
_OBJECT = re2.compile(
    rf"""(?i)^["']?[ \t]{{0,2}}(?::|=>?)?[ \t]{{0,2}}\{{(?:[^{{}}]*?[\s,;"'])??["']?{_GIVEN_AS}|"""
    rf"""^["']?:[ \t]*\n[ \t]+(?:[\w-]+:[^\n]{{0,60}}\n[ \t]+){{0,2}}{_GIVEN_AS}"""
)
# `[Password] hunter22`
_IN_BRACKETS, _BEHIND_BRACKET = re2.compile(r"\[[\w -]{0,16}$"), re2.compile(r"^\][ \t]?[:=]?[ \t]?[^\s:=\[(]")
# `- name: DB_PASSWORD`, `  value: ...` in the next line
_YAML_NAME = re2.compile(r"""(?:name|key):[ \t]*["']?[\w.-]{0,24}$""")
_YAML_VALUE = re2.compile(r"""^["']?[ \t]*\n[ \t]*(?:value|default):""")
# `config["SECRET_KEY"] = `
_SUBSCRIPT = re2.compile(r"""^["']?[\])]{1,2}(?:[ \t]?(?::=|=>|=|:)|,)""")
# Two that are compared, or one of a type: code
_COMPARED = re2.compile(r"^[\])\"']{0,2}[ \t]*(?:===?|!==?|<=|>=|~=|=~|&&|\|\|)[ \t]*[^\"'` \t=]")
_HASHES = re2.compile("(?i)" + "|".join(DATA["hashes"]))
_LETTER, _NO_LETTER = r"[^\x00-@\[-`{-\x7f]", r"[\x00-\x09\x0b-@\[-`{-\x7f]"
_HASH_GAP = re2.compile(rf"^{_LETTER}{{0,6}}{_NO_LETTER}{{0,4}}(?:{_LETTER}{{1,8}}{_NO_LETTER}{{1,3}})?$")
_LABELS = "|".join(DATA["labels"])
_STOPS = frozenset(DATA["stops"])
_SAYS = re2.compile(rf"(?i)(?:^|[^\pL\d])(?:{_LABELS})(?:$|[^\d])")
_LABEL = re2.compile(
    r"(?i)(?:^|[^\pL\d])(?:" + "|".join(DATA["password"]) + r")(?:$|[^\d])|"
    rf"^[^\pL]*(?:{_LABELS})(?:$|[^\d])|(?:^|[^\pL\d])(?:{_LABELS})[^\pL\d]*$"
)


def value_at(data: bytes, start: int, end: int) -> int:
    """Where to look for the value of the word that stands there; -1 where it names something."""
    before = data[max(0, start - _LOOK_BYTES) : start]
    if data[end : end + 1] in (b"\n", b"'", b'"') and _YAML_NAME.search(before):
        value = _YAML_VALUE.search(data[end : end + _LOOK_BYTES])
        if value is not None:
            return int(end + value.end() - 1)
    if b"$" not in before and _MAY_REFER.match(data, end) is None:
        return end
    behind = data[end : end + 3 * _LOOK_BYTES]
    if _COMPARED.search(behind):
        return -1
    given = _OBJECT.search(data[end : end + _OBJECT_BYTES])
    if given is not None:
        first = int(end + given.end() - 1)
        return first - (data[first - 1 : first] in _QUOTES)
    if _BEHIND_BRACKET.search(behind) and _IN_BRACKETS.search(before):
        return end + 1
    if _OPENS.search(before) and _CLOSES.search(behind) and not _ELEMENT.search(behind):
        return -1
    if _VARIABLE.search(before) and _IS_GIVEN.search(behind) is None:
        return -1
    if _NAMED_AS.search(before) and _ENDS_QUOTE.search(behind):
        if _NAMED_ELEMENT.search(before) and _CONTENT.search(behind):
            return end
        told = _VALUE_OF.search(behind)
        return end + told.end() - 1 if told and not _NOTHING.search(behind[told.end() :]) else -1
    subscript = _SUBSCRIPT.search(behind)
    return end + subscript.end() - 1 if subscript else end


def is_hash(data: bytes, start: int) -> bool:
    """Whether what stands there is said to be a hash or a commit."""
    before = data[max(0, start - _LOOK_BYTES) : start]
    return any(_HASH_GAP.search(before[match.end() :]) is not None for match in _HASHES.finditer(before))


def is_label(quoted: str) -> bool:
    """Whether a quoted text is one that a page shows beside a field: it names a password or says what to do, which four
    words and more that are no sentence may hold in their midst."""
    if any(c.isdigit() for c in quoted):
        return False
    words = quoted.casefold().split()
    may_be_phrase = len(words) >= 4 and _STOPS.isdisjoint(words)
    return _LABEL.search(quoted) is not None or (not may_be_phrase and _SAYS.search(quoted) is not None)
